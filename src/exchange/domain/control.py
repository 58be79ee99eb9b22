"""Users, accounts and keys: what is asked of shard 0 (proto/clob/v1/control.proto)."""

from exchange.domain.record import Record


class Registration(Record, frozen=True):
    public_key: bytes = b""
    user: int = 0
    account: int = 0


class SignedRegistration(Record, frozen=True):
    payload: bytes = b""
    signature: bytes = b""


class RegisterKey(Record, frozen=True):
    registration: SignedRegistration = SignedRegistration()


class RevokeKey(Record, frozen=True):
    key_id: bytes = b""


class OpenAccount(Record, frozen=True):
    user: int = 0


class ControlRequest(Record, frozen=True):
    request_id: bytes = b""
    register_key: RegisterKey = RegisterKey()
