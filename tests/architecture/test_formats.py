"""What is read of files that others wrote is data alone: nothing is unpickled or run.

Arrays are safetensors, the rest is JSON, Protocol Buffers or CSV.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("services", "tests") for path in (ROOT / folder).rglob("*.py"))
MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
CALLS = {("torch", "load"), ("np", "load"), ("numpy", "load"), ("yaml", "load")}
BUILT_IN = {"eval", "exec"}


def found_in(tree: ast.AST) -> list[str]:
    """What a file imports or calls that runs what it reads."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module] if node.module.split(".")[0] in MODULES else []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found += [node.func.id] if node.func.id in BUILT_IN else []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name) and (owner.id, node.func.attr) in CALLS:
                found.append(f"{owner.id}.{node.func.attr}")
            found += [word.arg for word in node.keywords if word.arg == "allow_pickle"]
    return found


def test_nothing_is_unpickled_or_run() -> None:
    assert len(SOURCES) > 100
    found = {path: found_in(ast.parse(path.read_text())) for path in SOURCES}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(file)",
        "np.load(file, allow_pickle=True)",
        "arrays.load(file, allow_pickle=True)",
        "eval(text)",
    ],
)
def test_such_a_line_would_be_found(line: str) -> None:
    assert found_in(ast.parse(line))


def test_serving_does_not_read_graphs_with_the_library_that_writes_them() -> None:
    for path in (ROOT / "services" / "serving").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not {"onnx"} & {name.split(".")[0] for name in names}, path
