"""What the long runs found, in tests/RELIABILITY.md: a section per part, which that part writes."""

import datetime
import os
import platform
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "RELIABILITY.md"
HEADER = """# What was tried to break the mesh, and what came of it

Each section is written by the command that it names, with the day, the machine and the seed of its
run. Nothing here is edited by hand.
"""


@dataclass(frozen=True)
class Record:
    """The figures of one part's run."""

    part: str
    seed: int
    began: float = field(default_factory=time.monotonic)
    lines: list[str] = field(default_factory=list)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Adds a table; each row has a cell per column."""
        self.lines.append("| " + " | ".join(columns) + " |")
        self.lines.append("|---" * len(columns) + "|")
        self.lines.extend("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)
        self.lines.append("")

    def say(self, sentence: str) -> None:
        """Adds a sentence."""
        self.lines.extend((sentence, ""))

    def write(self, page: Path = PAGE, *, held: bool) -> None:
        """Puts the section into the page, in place of what stood there, with the verdict."""
        seconds = time.monotonic() - self.began
        today = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
        verdict = "held" if held else "**VIOLATED**"
        command = f"`python -m tests.long {self.part} --seed {self.seed}`"
        head = [
            f"## {self.part}",
            "",
            f"{command} · {today} · {seconds:,.0f} s · {_machine()} · {verdict}",
            "",
        ]
        section = "\n".join(head + self.lines).rstrip() + "\n"
        page.write_text(_replace(page.read_text() if page.exists() else HEADER, self.part, section))


def _replace(text: str, part: str, section: str) -> str:
    """The page with a section in place of the part's old one, sections by name."""
    header, *old = re.split(r"(?m)^(?=## )", text)
    kept = [one for one in old if not one.startswith(f"## {part}\n")]
    sections = sorted([*kept, section])
    return "\n".join([header.rstrip() + "\n", *(one.rstrip() + "\n" for one in sections)])


def _machine() -> str:
    system = f"{platform.system()} {platform.machine()}"
    return f"{os.cpu_count()} cores, {system}, Python {platform.python_version()}"
