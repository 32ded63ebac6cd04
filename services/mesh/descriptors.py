"""The contracts as one FileDescriptorSet for Envoy, from the generated code: no protoc needed."""

from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor
from google.rpc import error_details_pb2
from trine.scheduler.v1 import (
    head_service_pb2,
    matching_service_pb2,
    rollout_service_pb2,
    run_service_pb2,
    training_service_pb2,
)
from trine.serving.v1 import match_service_pb2
from trine.triplets.v1 import (
    exposure_service_pb2,
    label_service_pb2,
    outcome_service_pb2,
    schema_service_pb2,
    sharing_service_pb2,
    user_service_pb2,
)

PUBLIC_FILES: tuple[FileDescriptor, ...] = (
    head_service_pb2.DESCRIPTOR,
    matching_service_pb2.DESCRIPTOR,
    rollout_service_pb2.DESCRIPTOR,
    run_service_pb2.DESCRIPTOR,
    training_service_pb2.DESCRIPTOR,
    match_service_pb2.DESCRIPTOR,
    exposure_service_pb2.DESCRIPTOR,
    label_service_pb2.DESCRIPTOR,
    outcome_service_pb2.DESCRIPTOR,
    schema_service_pb2.DESCRIPTOR,
    sharing_service_pb2.DESCRIPTOR,
    user_service_pb2.DESCRIPTOR,
    # Without it Envoy answers errors with an empty body instead of their details.
    error_details_pb2.DESCRIPTOR,
)


def write_descriptors(path: Path) -> None:
    """Writes the public services and everything that they import, imports first."""
    content = descriptor_pb2.FileDescriptorSet()
    seen: set[str] = set()
    for file in PUBLIC_FILES:
        _add(content, file, seen)
    path.write_bytes(content.SerializeToString(deterministic=True))


def _add(content: descriptor_pb2.FileDescriptorSet, file: FileDescriptor, seen: set[str]) -> None:
    if file.name in seen:
        return
    seen.add(file.name)
    for dependency in file.dependencies:
        _add(content, dependency, seen)
    file.CopyToProto(content.file.add())
