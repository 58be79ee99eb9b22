"""A folder of a benchmark's plots, SVG, all in one look; their titles name the processor and the commit."""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

MORE_COLORS: Final = ("#1b9e77", "#e377c2", "#7f7f7f", "#17becf", "#5e3c99", "#9c6b4e", "#0b3d0b", "#ffd92f")
"""After the five of the style, behind which all are black."""


class Plots:
    """Where plots go. Charts are pygal's, which has no types."""

    def __init__(self, pygal: ModuleType, folder: Path, machine: Mapping[str, Any]) -> None:
        self._pygal = pygal
        self._folder = folder
        self._measured_on = f"{machine['cpu']}, {machine['commit']}"

    @classmethod
    def open(cls, folder: Path, machine: Mapping[str, Any]) -> "Plots | None":
        """Return the folder, made if it is not there; None, and say so, where pygal is not installed.

        Args:
            folder: where plots are written.
            machine: what `bench_reference.machine` says.
        """
        try:
            import pygal
        except ImportError:
            print("no plots: pygal is not installed", file=sys.stderr)
            return None
        folder.mkdir(parents=True, exist_ok=True)
        print(f"plots: {folder}")
        return cls(pygal, folder, machine)

    def chart(self, kind: str, title: str, **options: Any) -> Any:
        """Return an empty chart of a kind of pygal's ("Bar"); axes of numbers are logarithmic if not told otherwise."""
        clean = self._pygal.style.CleanStyle
        style = clean(font_family="sans-serif", colors=(*clean.colors, *MORE_COLORS))
        # Without scripts: they would be fetched from elsewhere whenever somebody looks.
        looks = {"style": style, "js": [], "width": 1000, "logarithmic": True, **options}
        return getattr(self._pygal, kind)(title=f"{title}; {self._measured_on}", **looks)

    def write(self, chart: Any, name: str) -> None:
        """Write a chart as NAME.svg."""
        chart.render_to_file(str(self._folder / f"{name}.svg"))
