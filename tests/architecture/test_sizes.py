"""A file holds one idea, a function fits a screen."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
PROTO_LINES_MAX = 250
VAGUE = {"common", "data", "helper", "helpers", "info", "manager", "misc", "util", "utils"}

SOURCES = sorted(path for folder in ("services", "tests") for path in (ROOT / folder).rglob("*.py"))


def functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Name and length of every function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def test_there_are_sources() -> None:
    assert len(SOURCES) > 100


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_source_file_is_of_readable_size_and_opens_with_its_idea(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= FILE_LINES_MAX
    assert ast.get_docstring(tree), "no module docstring"
    long = [name for name, lines in functions(tree) if lines > FUNCTION_LINES_MAX]
    assert long == []
    assert path.stem not in VAGUE


@pytest.mark.parametrize(
    "path", sorted((ROOT / "protos" / "trine").rglob("*.proto")), ids=lambda path: path.name
)
def test_a_proto_file_is_of_readable_size(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= PROTO_LINES_MAX
