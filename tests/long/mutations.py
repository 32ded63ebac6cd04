"""Breaks the mesh on purpose, one line at a time, and sees which test notices.

A mutation is a replacement in one file of a copy of the project. The tests that it names must pass
on the copy as it is, and fail once it is applied: otherwise they could not see what they are for.
Each core has a copy of its own.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import cache_from_source
from itertools import chain
from pathlib import Path

from tests.long.mutation import Mutation
from tests.long.mutation_list import MUTATIONS
from tests.long.record import Record

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("services", "gen", "tests", "deploy", "protos")
FILES = ("pyproject.toml", "buf.yaml", "README.md")
SECONDS_MAX = 300


@dataclass(frozen=True)
class Result:
    """What a run of tests said."""

    passed: bool
    first_failure: str


def measure_mutations(record: Record) -> bool:
    """Applies every mutation of the list in turn; holds if each one is caught."""
    ordered = sorted(MUTATIONS, key=lambda mutation: mutation.test)
    share = -(-len(ordered) // (os.cpu_count() or 1))
    shares = [ordered[start : start + share] for start in range(0, len(ordered), share)]
    with ThreadPoolExecutor(len(shares)) as pool:
        said = dict(chain.from_iterable(pool.map(_try_all, shares)))
    record.table(
        ("invariant", "mutation", "file", "caught by"),
        [(m.invariant, m.name, f"`{m.path}`", said[m]) for m in MUTATIONS],
    )
    return all(words.startswith("`") for words in said.values())


def _try_all(mutations: Sequence[Mutation]) -> list[tuple[Mutation, str]]:
    """Tries mutations one after another on a copy of the project."""
    with tempfile.TemporaryDirectory(prefix="trine-mutations-") as folder:
        copy = Path(folder)
        _copy_project(copy)
        run_unbroken = cache(partial(_run_tests, copy))
        rows = []
        for mutation in mutations:
            rows.append((mutation, _try(copy, mutation, run_unbroken)))
            print(f"{mutation.name}: {rows[-1][1]}", flush=True)
        return rows


def _try(copy: Path, mutation: Mutation, run_unbroken: Callable[[str], Result]) -> str:
    """The test that caught a mutation, or what went wrong, in words."""
    file = copy / mutation.path
    text = file.read_text()
    if text.count(mutation.old) != 1:
        return f"NOT APPLICABLE: its text stands {text.count(mutation.old)} times in the file"
    if not (before := run_unbroken(mutation.test)).passed:
        return f"NOT TRIED: {before.first_failure} fails without it"
    _write(file, text.replace(mutation.old, mutation.new))
    try:
        after = _run_tests(copy, mutation.test)
    finally:
        _write(file, text)
    return "NOT CAUGHT" if after.passed else f"`{after.first_failure}`"


def _write(file: Path, text: str) -> None:
    """Writes a file whose bytecode, of the same second and size, might pass for that of the new."""
    file.write_text(text)
    Path(cache_from_source(str(file))).unlink(missing_ok=True)


def _copy_project(target: Path) -> None:
    for name in COPIED:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, target / name)


def _run_tests(copy: Path, test: str) -> Result:
    """Runs tests of the copy: its folders go before those of the installation."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *test.split()]
    environment = os.environ | {
        "PYTHONPATH": f"{copy}{os.pathsep}{copy / 'gen'}",
    }
    done = subprocess.run(
        command,
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    failures = [
        line.split(" ", 1)[1].split(" - ")[0]
        for line in done.stdout.splitlines()
        if line.startswith(("FAILED tests/", "ERROR tests/"))
    ]
    return Result(
        done.returncode == 0, failures[0] if failures else (done.stdout + done.stderr)[-300:]
    )
