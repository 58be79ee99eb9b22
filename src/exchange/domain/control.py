"""Requests to shard 0 about users, accounts and keys (proto/clob/v1/control.proto)."""

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


ControlAction = RegisterKey | RevokeKey | OpenAccount


class ControlRequest(Record, frozen=True):
    request_id: bytes = b""
    action: ControlAction = OpenAccount()
