"""Traders of a flow: each an account with a key of its own, which an exchange registers."""

import secrets
from typing import Final, NamedTuple

from clob.v1 import admin_service_pb2, admin_service_pb2_grpc
from exchange.client.keys import PrivateKey
from exchange.domain.signing import SEED_BYTES

REGISTER_S_MAX: Final = 120


class Trader(NamedTuple):
    """An account and the key that signs for it."""

    account: int
    seed: bytes
    key_id: bytes


async def register_trader(admin: admin_service_pb2_grpc.AdminServiceStub, environment: str) -> Trader:
    """Make a user with a new key; return its account and key.

    Raises:
        grpc.RpcError: the exchange refused or did not answer.
    """
    seed = secrets.token_bytes(SEED_BYTES)
    key = PrivateKey(seed)
    request = admin_service_pb2.CreateUserRequest(
        request_id=secrets.token_bytes(16),
        public_key=key.public_key,
        signature=key.registration(environment).signature,
    )
    made = await admin.CreateUser(request, timeout=REGISTER_S_MAX)
    return Trader(made.account_id, seed, key.key_id)
