"""Makes every document in this folder again and compares it with its file.

    python -m tests.vectors.regenerate            show what differs; exit 1 if anything does
    python -m tests.vectors.regenerate --write    write what differs, after showing it

A module make_NAME.py here has a function `vectors() -> dict`, which returns the document, the same on every call, and
may have a constant FILE, the document's file name; without one it is NAME.json.
"""

import argparse
import difflib
import importlib
import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def makers() -> list[str]:
    """Return the names of the modules that make documents."""
    return sorted(path.stem for path in FOLDER.glob("make_*.py"))


def document(maker: str) -> tuple[str, str]:
    """Return the file name and the text of the document that a module makes."""
    module = importlib.import_module(f"tests.vectors.{maker}")
    name: str = getattr(module, "FILE", f"{maker.removeprefix('make_')}.json")
    return name, json.dumps(module.vectors(), indent=2) + "\n"


def load(name: str) -> Any:
    """Return the document in a file of this folder."""
    return json.loads((FOLDER / name).read_text())


def difference(maker: str) -> tuple[str, str, str]:
    """Return the file name, the text as it is to be, and a unified diff from the file; an empty one: they are equal."""
    name, made = document(maker)
    path = FOLDER / name
    kept = path.read_text() if path.exists() else ""
    lines = difflib.unified_diff(
        kept.splitlines(keepends=True), made.splitlines(keepends=True), f"{name} (file)", f"{name} (made)"
    )
    return name, made, "".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description="Compare the vectors with what the code makes now.")
    parser.add_argument("--write", action="store_true", help="write what differs")
    write = parser.parse_args(arguments).write
    documents, differing = set(), []
    for maker in makers():
        name, made, diff = difference(maker)
        documents.add(name)
        if diff:
            sys.stdout.write(diff)
            differing.append(name)
            if write:
                (FOLDER / name).write_text(made)
    strays = sorted(path.name for path in FOLDER.glob("*.json") if path.name not in documents)
    for name in strays:
        print(f"VECTOR_WITHOUT_MAKER: {name} is made by no module of this folder; write one or delete the file")
    if not differing:
        print(f"{len(documents)} documents are what the code makes")
    elif write:
        print(f"written: {', '.join(differing)}")
    else:
        print(f"VECTORS_DIFFER: {', '.join(differing)}; run again with --write if the new bytes are right")
    return 1 if strays or (differing and not write) else 0


if __name__ == "__main__":
    if str(FOLDER.parents[1]) not in sys.path:
        sys.path.insert(0, str(FOLDER.parents[1]))
    raise SystemExit(main())
