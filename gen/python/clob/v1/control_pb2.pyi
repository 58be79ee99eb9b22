from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Registration(_message.Message):
    __slots__ = ("public_key", "user", "account")
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    public_key: bytes
    user: int
    account: int
    def __init__(self, public_key: _Optional[bytes] = ..., user: _Optional[int] = ..., account: _Optional[int] = ...) -> None: ...

class SignedRegistration(_message.Message):
    __slots__ = ("payload", "signature")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    signature: bytes
    def __init__(self, payload: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class RegisterKey(_message.Message):
    __slots__ = ("registration",)
    REGISTRATION_FIELD_NUMBER: _ClassVar[int]
    registration: SignedRegistration
    def __init__(self, registration: _Optional[_Union[SignedRegistration, _Mapping]] = ...) -> None: ...

class RevokeKey(_message.Message):
    __slots__ = ("key_id",)
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    key_id: bytes
    def __init__(self, key_id: _Optional[bytes] = ...) -> None: ...

class OpenAccount(_message.Message):
    __slots__ = ("user",)
    USER_FIELD_NUMBER: _ClassVar[int]
    user: int
    def __init__(self, user: _Optional[int] = ...) -> None: ...

class ControlRequest(_message.Message):
    __slots__ = ("request_id", "register_key")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REGISTER_KEY_FIELD_NUMBER: _ClassVar[int]
    request_id: bytes
    register_key: RegisterKey
    def __init__(self, request_id: _Optional[bytes] = ..., register_key: _Optional[_Union[RegisterKey, _Mapping]] = ...) -> None: ...
