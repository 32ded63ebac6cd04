"""Values of runs from files as protobuf messages, and back."""

from trine.scheduler.v1 import file_run_pb2, model_catalog_service_pb2

from services.scheduler.core.file_source import (
    Checkpoint,
    FileDataset,
    FileResult,
    FileSource,
    Hyperparameters,
    InputFile,
    Method,
    checkpoint_name,
)
from services.scheduler.core.find_model import NamedModel
from services.scheduler.core.run import Run
from services.scheduler.core.run_events import RunEvent
from services.scheduler.core.verdict import GENERAL
from services.scheduler.messages import run_to_proto, timestamp

METHODS = {
    file_run_pb2.FileSource.METHOD_UNSPECIFIED: Method.AUTO,
    file_run_pb2.FileSource.METHOD_SUPERVISED: Method.SUPERVISED,
    file_run_pb2.FileSource.METHOD_DPO: Method.DPO,
    file_run_pb2.FileSource.METHOD_TRIPLET: Method.TRIPLET,
}
_METHODS_TO_PROTO = {method: number for number, method in METHODS.items()}


def file_run_to_proto(run: Run, minutes: int) -> file_run_pb2.FileRun:
    """A run from files as the gateway reads it."""
    assert run.job.files is not None
    message = file_run_pb2.FileRun(
        run=run_to_proto(run, minutes),
        tenant=run.job.tenant,
        source=source_to_proto(run.job.files.source),
        seed=run.job.seed,
    )
    if run.dataset is not None:
        message.dataset.CopyFrom(_dataset_to_proto(run.dataset))
    if run.result is not None:
        message.result.CopyFrom(_result_to_proto(run.result))
    return message


def source_to_proto(source: FileSource) -> file_run_pb2.FileSource:
    """What a run learns from, as trainers and the gateway read it."""
    validation = source.validation_file
    return file_run_pb2.FileSource(
        training_file=_file_to_proto(source.training_file),
        validation_file=None if validation is None else _file_to_proto(validation),
        base_model=source.base_model,
        method=_METHODS_TO_PROTO[source.method],
        hyperparameters=_hyperparameters_to_proto(source.hyperparameters),
        model=source.model,
    )


def source_from_proto(message: file_run_pb2.FileSource) -> FileSource:
    """What a caller asks for; not checked yet."""
    given = message.HasField("validation_file")
    return FileSource(
        training_file=_file(message.training_file),
        validation_file=_file(message.validation_file) if given else None,
        base_model=message.base_model,
        method=METHODS.get(message.method, Method.AUTO),
        hyperparameters=_hyperparameters(message.hyperparameters),
        model=message.model,
    )


def dataset_from_proto(message: file_run_pb2.FileDataset) -> FileDataset:
    """What files hold, as a trainer tells it."""
    return FileDataset(
        training_lines_count=message.training_lines_count,
        validation_lines_count=message.validation_lines_count,
        held_out_lines_count=message.held_out_lines_count,
        items_count=message.items_count,
        tokens_count=message.tokens_count,
        method=METHODS.get(message.method, Method.AUTO),
    )


def result_from_proto(message: file_run_pb2.FileResult) -> FileResult:
    """What came of a run, as a trainer tells it."""
    return FileResult(
        result_file_digest=message.result_file_digest,
        result_file_size_bytes=message.result_file_size_bytes,
        trained_tokens_count=message.trained_tokens_count,
        hyperparameters=_hyperparameters(message.hyperparameters),
    )


def checkpoint_from_proto(message: file_run_pb2.FileRunCheckpoint) -> Checkpoint:
    """A checkpoint, as a trainer tells it."""
    measured = message.HasField("validation_loss")
    return Checkpoint(
        step=message.step,
        training_loss=message.training_loss,
        validation_loss=message.validation_loss if measured else None,
        validation_ndcg_at_10=message.validation_ndcg_at_10 if measured else None,
        manifest_digest=message.manifest_digest,
    )


def checkpoint_to_proto(model: str, checkpoint: Checkpoint) -> file_run_pb2.FileRunCheckpoint:
    """A checkpoint as the gateway reads it."""
    return file_run_pb2.FileRunCheckpoint(
        model=checkpoint_name(model, checkpoint.step),
        step=checkpoint.step,
        training_loss=checkpoint.training_loss,
        validation_loss=checkpoint.validation_loss,
        validation_ndcg_at_10=checkpoint.validation_ndcg_at_10,
        manifest_digest=checkpoint.manifest_digest,
        create_time=timestamp(checkpoint.create_time),
    )


def event_to_proto(event: RunEvent) -> file_run_pb2.FileRunEvent:
    """An event as the gateway reads it."""
    kind, point = file_run_pb2.FileRunEvent, event.point
    metrics = None
    if point is not None:
        measured = point.validation_loss is not None
        metrics = kind.Metrics(
            step=point.step,
            training_loss=point.loss,
            validation_loss=point.validation_loss,
            validation_ndcg_at_10=point.validation_ndcg_at_10 if measured else None,
        )
    return kind(
        event_id=event.event_id,
        create_time=timestamp(event.create_time),
        level=event.level,
        message=event.message,
        metrics=metrics,
    )


def model_to_proto(model: NamedModel) -> model_catalog_service_pb2.Model:
    """A model as serving and the gateway read it."""
    return model_catalog_service_pb2.Model(
        model=model.model,
        head=model.head or GENERAL,
        manifest_digest=model.manifest_digest,
        run_id=model.run_id,
        create_time=timestamp(model.create_time),
        owner=model.owner,
    )


def _file(message: file_run_pb2.FileSource.InputFile) -> InputFile:
    return InputFile(message.digest, message.size_bytes)


def _file_to_proto(file: InputFile) -> file_run_pb2.FileSource.InputFile:
    return file_run_pb2.FileSource.InputFile(digest=file.digest, size_bytes=file.size_bytes)


def _hyperparameters(message: file_run_pb2.Hyperparameters) -> Hyperparameters:
    return Hyperparameters(**{field.name: value for field, value in message.ListFields()})


def _hyperparameters_to_proto(chosen: Hyperparameters) -> file_run_pb2.Hyperparameters:
    return file_run_pb2.Hyperparameters(
        n_epochs=chosen.n_epochs,
        batch_size=chosen.batch_size,
        learning_rate_multiplier=chosen.learning_rate_multiplier,
        beta=chosen.beta,
    )


def _dataset_to_proto(dataset: FileDataset) -> file_run_pb2.FileDataset:
    return file_run_pb2.FileDataset(
        training_lines_count=dataset.training_lines_count,
        validation_lines_count=dataset.validation_lines_count,
        held_out_lines_count=dataset.held_out_lines_count,
        items_count=dataset.items_count,
        tokens_count=dataset.tokens_count,
        method=_METHODS_TO_PROTO[dataset.method],
    )


def _result_to_proto(result: FileResult) -> file_run_pb2.FileResult:
    return file_run_pb2.FileResult(
        result_file_digest=result.result_file_digest,
        result_file_size_bytes=result.result_file_size_bytes,
        trained_tokens_count=result.trained_tokens_count,
        hyperparameters=_hyperparameters_to_proto(result.hyperparameters),
    )
