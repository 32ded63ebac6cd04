"""What Envoy is told of the contracts: every public service, none that is internal."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from trine.gateway.v1 import authorization_pb2

from services.mesh.descriptors import write_descriptors
from services.mesh.generate import GENERATED


@pytest.fixture
def files(tmp_path: Path) -> list[descriptor_pb2.FileDescriptorProto]:
    """The files that are written."""
    path = tmp_path / "descriptors.binpb"
    write_descriptors(path)
    return list(descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file)


def services() -> Iterator[ServiceDescriptor]:
    """Every service of the contracts."""
    for path in sorted(GENERATED.rglob("*_service_pb2.py")):
        name = ".".join(path.relative_to(GENERATED).with_suffix("").parts)
        yield from importlib.import_module(name).DESCRIPTOR.services_by_name.values()


def is_public(service: ServiceDescriptor) -> bool:
    """Whether an API key opens one of its methods."""
    return any(
        method.GetOptions().Extensions[authorization_pb2.required_scope]
        for method in service.methods
    )


def test_every_public_service_is_told_and_no_other(
    files: list[descriptor_pb2.FileDescriptorProto],
) -> None:
    told = {f"{file.package}.{service.name}" for file in files for service in file.service}
    public = {service.full_name for service in services() if is_public(service)}
    assert len(public) >= 7
    assert told == public


def test_every_public_method_has_a_path_and_no_internal_one_has() -> None:
    for service in services():
        for method in service.methods:
            options = method.GetOptions()
            scope = options.Extensions[authorization_pb2.required_scope]
            if method.client_streaming:  # by gRPC alone: HTTP has no stream of requests
                assert not options.HasExtension(annotations_pb2.http), method.full_name
                continue
            assert options.HasExtension(annotations_pb2.http) == bool(scope), method.full_name


def test_imports_come_before_those_who_import_them(
    files: list[descriptor_pb2.FileDescriptorProto],
) -> None:
    pool = descriptor_pool.DescriptorPool()
    for file in files:
        pool.Add(file)  # refuses a file whose imports it does not know
    assert len({file.name for file in files}) == len(files)
    # Without it Envoy answers errors with an empty body.
    assert "reason" in pool.FindMessageTypeByName("google.rpc.ErrorInfo").fields_by_name


def test_the_same_contracts_are_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write_descriptors(first)
    write_descriptors(second)
    assert first.read_bytes() == second.read_bytes()
