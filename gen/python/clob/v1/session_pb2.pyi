from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Session(_message.Message):
    __slots__ = ("challenge", "valid_until_ms")
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    challenge: bytes
    valid_until_ms: int
    def __init__(self, challenge: _Optional[bytes] = ..., valid_until_ms: _Optional[int] = ...) -> None: ...

class SignedSession(_message.Message):
    __slots__ = ("key_id", "payload", "signature")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    key_id: bytes
    payload: bytes
    signature: bytes
    def __init__(self, key_id: _Optional[bytes] = ..., payload: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...
