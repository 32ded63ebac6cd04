"""The contracts: linted, formatted, generated anew without a difference, and compatible."""

import subprocess
import sys
from pathlib import Path

from services.mesh.generate import differences

ROOT = Path(__file__).parents[2]
BUF = Path(sys.executable).parent / "buf"


def buf(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs buf in the root of the project."""
    return subprocess.run([BUF, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_protos_are_linted() -> None:
    result = buf("lint")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_protos_are_formatted() -> None:
    result = buf("format", "--diff", "--exit-code", "--path", "protos/trine")
    assert result.returncode == 0, result.stdout


def test_the_generated_code_is_what_the_protos_say() -> None:
    assert differences() == []


def test_the_last_release_still_fits() -> None:
    """Compares with the newest release tag; before the first release, with the last commit."""
    tag = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0", "--match", "v*"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    against = f".git#tag={tag}" if tag else ".git#ref=HEAD"
    result = buf("breaking", "--against", against)
    assert result.returncode == 0, result.stdout + result.stderr
