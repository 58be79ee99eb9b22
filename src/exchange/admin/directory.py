"""The directory: users and keys of shard 0 in the order in which they are listed."""

from collections.abc import Iterator
from itertools import islice

from sortedcontainers import SortedList

from clob.v1.state_pb2 import KeyState, UserState
from exchange.admin.port import Host
from exchange.control.view import ControlView


class Directory:
    """Lists users by number and keys by key_id. A view only ever gains them, so an index is brought up cheaply."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._view: ControlView | None = None
        self._seen = 0
        self._all: SortedList[bytes] = SortedList()
        self._of_user: dict[int, SortedList[bytes]] = {}

    def user(self, number: int) -> UserState | None:
        """Return a user; None: there is none of that number."""
        accounts = self._host.view.users.get(number)
        return None if accounts is None else UserState(user=number, accounts=accounts)

    def users_after(self, number: int, count: int) -> list[UserState]:
        """Return up to `count` users above a number, by number: they are dense from 1."""
        users = self._host.view.users
        return [
            UserState(user=user, accounts=users[user])
            for user in range(number + 1, number + 1 + count)
            if user in users
        ]

    def key(self, key_id: bytes) -> KeyState | None:
        """Return a key; None: there is none of that name."""
        key = self._host.view.keys.get(key_id)
        if key is None:
            return None
        return KeyState(
            key_id=key_id, public_key=key.public_key, user=key.user, account=key.account, revoked=key.revoked
        )

    def keys_after(self, key_id: bytes, count: int, user: int = 0) -> list[KeyState]:
        """Return up to `count` keys above a name, by name, of one user or (0) of all."""
        self._catch_up()
        names = self._of_user.get(user, SortedList()) if user else self._all
        found: Iterator[bytes] = islice(names.irange(key_id, inclusive=(False, True)), count)
        return [key for name in found if (key := self.key(name)) is not None]

    def _catch_up(self) -> None:
        view = self._host.view
        if view is not self._view:
            self._view, self._seen, self._all, self._of_user = view, 0, SortedList(), {}
        if len(view.keys) > self._seen:
            # Keys are never removed and a dict keeps their order, so the new ones are at its end.
            added = list(islice(view.keys.items(), self._seen, None))
            self._seen = len(view.keys)
            self._all.update(key_id for key_id, _ in added)
            for key_id, key in added:
                self._of_user.setdefault(key.user, SortedList()).add(key_id)
