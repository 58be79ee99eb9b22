"""Pages of a list: sizes, and tokens that say where the next page starts."""

from exchange.serving.errors import invalid

PAGE_SIZE: int = 100
PAGE_SIZE_MAX: int = 1_000


def page_size(asked: int) -> int:
    """Return how many a page has; zero: the default. It was checked."""
    return asked or PAGE_SIZE


def read_token(token: str, numbers: int) -> tuple[int, ...]:
    """Return the numbers in a page token; zeros for the first page.

    Raises:
        Refusal: it is no token of such a list.
    """
    if not token:
        return (0,) * numbers
    parts = token.split("-")
    if len(parts) != numbers or not all(part.isascii() and part.isdigit() and len(part) <= 20 for part in parts):
        raise invalid({"page_token": "is no next_page_token of this call; leave it empty for the first page"})
    return tuple(map(int, parts))


def write_token(*numbers: int) -> str:
    """Return numbers as a page token."""
    return "-".join(map(str, numbers))
