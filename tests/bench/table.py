"""The bench's answer: each figure beside its floor."""

from rich.console import Console
from rich.table import Table as RichTable

NONE = ""


class Table:
    """Collects rows while the bench runs and prints them at its end."""

    def __init__(self) -> None:
        self._rich = RichTable(title="Figures and floors of one run: quote the ratios")
        for name in ("figure", "measured", "floor", "floor's figure", "ratio"):
            right = name not in {"figure", "floor"}
            self._rich.add_column(name, justify="right" if right else "left")

    def compare(
        self, figure: str, measured: float, floor: str, of_floor: float, unit: str = "/s"
    ) -> None:
        """A figure and what it is held against."""
        ratio = f"{measured / of_floor:.3g}"
        self._rich.add_row(figure, _text(measured, unit), floor, _text(of_floor, unit), ratio)

    def tell(self, figure: str, measured: float, unit: str) -> None:
        """A figure that speaks for itself."""
        self._rich.add_row(figure, _text(measured, unit), NONE, NONE, NONE)

    def print(self) -> None:
        """Prints all rows."""
        Console(width=120).print(self._rich)


def _text(value: float, unit: str) -> str:
    number = f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.3g}"
    return f"{number} {unit}".rstrip()
