"""Pages of lists: sizes, and tokens that say where the next page begins."""

import base64
import binascii
from typing import Final

import msgspec

from exchange.admin.refusals import refuse_field

PAGE_SIZE_DEFAULT: Final = 100
PAGE_SIZE_MAX: Final = 1_000

Place = tuple[int | bytes | str, ...]
"""What the last item of a page is found again by."""


def page_size_of(asked: int) -> int:
    """Return how many items to return.

    Raises:
        AdminRefusal: INVALID_FIELD.
    """
    if asked > PAGE_SIZE_MAX:
        refuse_field("page_size", f"is {asked}; 1 .. {PAGE_SIZE_MAX:,} are allowed, 0 means {PAGE_SIZE_DEFAULT}")
    return asked or PAGE_SIZE_DEFAULT


def token_of(what: str, place: Place) -> str:
    """Return the token of the page after `place` in the list `what`, which has its filters in it."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode([what, *place])).decode().rstrip("=")


def place_of(what: str, token: str, *types: type) -> Place | None:
    """Return the place that a token names; None: the first page.

    Args:
        what: the list, as it was given to `token_of`.
        token: from the caller.
        types: of what the place consists of.

    Raises:
        AdminRefusal: INVALID_FIELD: it is no token, or of another list or filter.
    """
    if not token:
        return None
    try:
        padded = token + "=" * (-len(token) % 4)
        found = msgspec.msgpack.decode(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        found = None
    if (
        not isinstance(found, list)
        or len(found) != len(types) + 1
        or found[0] != what
        or not all(type(part) is wanted for part, wanted in zip(found[1:], types, strict=True))
    ):
        refuse_field("page_token", "is not the next_page_token of a page of this list with these filters")
    return tuple(found[1:])
