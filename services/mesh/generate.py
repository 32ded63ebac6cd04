"""Generates gen/ from protos/: messages, typed stubs, gRPC code of services, and OpenAPI."""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterable
from importlib import metadata, resources
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from services.mesh.openapi import make_document

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"
GENERATED = ROOT / "gen"
OPENAPI = GENERATED / "openapi.json"


def generate(target: Path) -> None:
    """Writes the generated code into a folder."""
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("trine/**/*.proto"))
    services = [file for file in files if file.endswith("_service.proto")]
    _protoc(files, f"--python_out={target}", f"--mypy_out=quiet:{target}")
    typed = f"--mypy_grpc_out=quiet,only_async:{target}"
    _protoc(services, f"--grpc_python_out={target}", typed)
    document = make_document(_describe(services), metadata.version("trine"))
    (target / OPENAPI.name).write_text(json.dumps(document, indent=1) + "\n")


def regenerate() -> None:
    """Replaces gen/ by what the protos say now."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        shutil.rmtree(GENERATED / "trine", ignore_errors=True)
        shutil.copytree(Path(folder) / "trine", GENERATED / "trine")
        shutil.copy(Path(folder) / OPENAPI.name, OPENAPI)


def differences() -> list[str]:
    """Returns the generated files that are not what the protos say."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh, stored = _read(Path(folder)), _read(GENERATED)
    return sorted(name for name in fresh | stored if fresh.get(name) != stored.get(name))


def _describe(files: Iterable[str]) -> FileDescriptorSet:
    """The files with their comments, and all that they import."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "descriptors.binpb"
        _protoc(
            files,
            f"--descriptor_set_out={path}",
            "--include_imports",
            "--include_source_info",
        )
        return FileDescriptorSet.FromString(path.read_bytes())


def _protoc(files: Iterable[str], *outputs: str) -> None:
    from grpc_tools import protoc  # noqa: PLC0415  # a development dependency

    well_known = resources.files("grpc_tools") / "_proto"
    scripts = Path(sys.executable).parent
    plugins = [
        f"--plugin=protoc-gen-{name}={scripts / f'protoc-gen-{name}'}"
        for name in ("mypy", "mypy_grpc")
    ]
    if protoc.main(["protoc", f"-I{PROTOS}", f"-I{well_known}", *plugins, *outputs, *files]):
        raise SystemExit("protoc failed")


def _read(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.suffix in {".py", ".pyi", ".json"})
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


if __name__ == "__main__":
    regenerate()
