"""The session that private reads need: opened when first needed, renewed before it ends."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from clob.v1 import account_service_pb2 as account_pb2
from exchange.client.directory import Directory
from exchange.client.errors import ClientError
from exchange.client.keys import Signer
from exchange.client.transport import Transport, patiently

SESSION_MS: Final = 3_600_000
"""How long a session is asked for; the server may end it earlier."""
RENEW_BEFORE_MS: Final = 30_000
SESSION_ENDED: Final = "SESSION_REQUIRED"


class Sessions:
    """Gives each private call a token.

    Attributes:
        user: of the key; 0 before the first session.
        accounts: that the key may read, ascending; empty before the first session.
    """

    def __init__(self, transport: Transport, directory: Directory, signer: Signer | None) -> None:
        self._transport = transport
        self._directory = directory
        self._signer = signer
        self._token = ""
        self._renew_at_ms = 0
        self._opening = asyncio.Lock()
        self.user = 0
        self.accounts: tuple[int, ...] = ()

    async def token(self) -> str:
        """Return the token of a session that has not ended, as far as is known.

        Raises:
            ClientError: KEY_NEEDED, WRONG_ENVIRONMENT, or BAD_KEY_OR_SIGNATURE.
        """
        async with self._opening:
            if not self._token or self._directory.now_ms() >= self._renew_at_ms:
                await patiently(self._open, self._transport.patience_s)
            return self._token

    def ended(self, token: str) -> None:
        """Forget a token with which a call was refused."""
        if token == self._token:
            self._token = ""

    def opened(self, accounts: Iterable[int]) -> None:
        """Take in accounts that the user has opened."""
        self.accounts = tuple(sorted({*self.accounts, *accounts}))

    async def call(self, call: Any, request: Any) -> Any:
        """Return the answer of a private read, made again while that may help and under a new session if need be."""

        async def attempt() -> Any:
            token = await self.token()
            try:
                return await self._transport.once(call, request, token=token)
            except ClientError as error:
                if error.reason != SESSION_ENDED:
                    raise
                self.ended(token)
                return await self._transport.once(call, request, token=await self.token())

        return await patiently(attempt, self._transport.patience_s)

    async def _open(self) -> None:
        if self._signer is None:
            raise ClientError("KEY_NEEDED", "private reads and orders need a key; connect(address, key=...)")
        accounts = self._transport.accounts
        challenge = await self._transport.once(accounts.CreateChallenge, account_pb2.CreateChallengeRequest())
        self._directory.check_environment(challenge.environment)
        session = self._signer.sign_session(challenge.challenge, self._directory.now_ms() + SESSION_MS)
        opened = await self._transport.once(accounts.OpenSession, account_pb2.OpenSessionRequest(session=session))
        now_ms = self._directory.now_ms()
        lasts_ms = max(0, opened.valid_until_ms - now_ms)
        self._renew_at_ms = now_ms + lasts_ms - min(RENEW_BEFORE_MS, lasts_ms // 4)
        self._token = opened.token
        self.user = opened.user
        self.accounts = tuple(opened.accounts)
