"""Tables for people: columns as wide as they need to be, numbers to the right."""

from collections.abc import Iterable, Sequence


def draw_table(headers: Sequence[str], rows: Iterable[Sequence[object]], right: str = "") -> list[str]:
    """Return the lines of a table.

    Args:
        headers: of the columns.
        rows: a cell for each column; None is an empty one.
        right: a character for each column, "r" where cells go to the right; missing ones go to the left.
    """
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[place]) for row in [list(headers), *texts]) for place in range(len(headers))]
    sides = right.ljust(len(headers), "l")
    return [
        "  ".join(
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(row, widths, sides, strict=False)
        ).rstrip()
        for row in [list(headers), *texts]
    ]


def draw_facts(facts: Iterable[tuple[str, object]]) -> list[str]:
    """Return a line for each fact, names in one column; facts of None are left out."""
    told = [(name, fact) for name, fact in facts if fact is not None]
    width = max((len(name) for name, _ in told), default=0)
    return [f"{name:<{width}}  {fact}" for name, fact in told]
