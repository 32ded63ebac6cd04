"""Reading what a caller wants of a job: methods, hyperparameters, metadata, fingerprints."""

from typing import Any

import pytest

from services.gateway.core.create_job import fingerprint
from services.gateway.core.errors import FieldInvalidError
from services.gateway.core.run import Hyperparameters, Method
from services.gateway.facades.openai.wishes import check_integrations, read_wish

WISH: dict[str, Any] = {"model": "trine-general", "training_file": "file-1"}
Inner = dict[str, Any]


def method(kind: str, **chosen: Any) -> Inner:
    """A body with a method."""
    return {"method": {"type": kind, kind: {"hyperparameters": chosen}}}


@pytest.mark.parametrize(
    ("body", "wanted", "chosen"),
    [
        ({}, Method.AUTO, Hyperparameters()),
        ({"hyperparameters": {"n_epochs": "auto"}}, Method.AUTO, Hyperparameters()),
        ({"hyperparameters": {"n_epochs": 3}}, Method.AUTO, Hyperparameters(n_epochs=3)),
        ({"method": {"type": "supervised"}}, Method.SUPERVISED, Hyperparameters()),
        (
            {"method": {"type": "supervised"}, "hyperparameters": {"batch_size": 4}},
            Method.SUPERVISED,
            Hyperparameters(batch_size=4),
        ),
        (
            method("supervised", n_epochs=2) | {"hyperparameters": {"n_epochs": 9}},
            Method.SUPERVISED,
            Hyperparameters(n_epochs=2),
        ),
        (
            method("dpo", beta=0.1, learning_rate_multiplier=2),
            Method.DPO,
            Hyperparameters(beta=0.1, learning_rate_multiplier=2.0),
        ),
        (method("triplet", n_epochs=1), Method.TRIPLET, Hyperparameters(n_epochs=1)),
    ],
)
def test_method_and_hyperparameters(body: Inner, wanted: Method, chosen: Hyperparameters) -> None:
    request = read_wish(WISH | body, "")
    assert (request.method, request.hyperparameters) == (wanted, chosen)
    assert request.given == body


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (method("supervised", beta=1), "method.supervised.hyperparameters.beta"),
        (method("dpo", beta=0), "method.dpo.hyperparameters.beta"),
        (method("dpo", beta=True), "method.dpo.hyperparameters.beta"),
        (method("dpo", n_epochs=0), "method.dpo.hyperparameters.n_epochs"),
        (method("dpo", n_epochs=1.5), "method.dpo.hyperparameters.n_epochs"),
        (method("dpo", batch_size=257), "method.dpo.hyperparameters.batch_size"),
        ({"hyperparameters": {"learning_rate_multiplier": 101}}, "learning_rate_multiplier"),
        ({"hyperparameters": {"epochs": 1}}, "hyperparameters.epochs"),
        ({"hyperparameters": []}, "hyperparameters"),
        (method("reinforcement"), "method.type"),
        ({"method": {}}, "method.type"),
        ({"method": {"type": "dpo", "supervised": {}}}, "method.supervised"),
        ({"method": {"type": "dpo", "dpo": {"x": 1}}}, "method.dpo.x"),
    ],
)
def test_what_a_method_does_not_know_is_refused_by_name(body: Inner, field: str) -> None:
    with pytest.raises(FieldInvalidError) as caught:
        read_wish(WISH | body, "")
    assert caught.value.metadata["field"].endswith(field)


def test_metadata_of_the_header_stand_behind_those_of_the_body() -> None:
    body = WISH | {"metadata": {"team": "blue"}}
    assert read_wish(body, "").metadata == {"team": "blue"}
    header = '{"team": "red", "env": "test"}'
    assert read_wish(body, header).metadata == {"team": "blue", "env": "test"}
    assert read_wish(WISH, header).metadata == {"team": "red", "env": "test"}
    wrongs = ("x", "[]", '{"a": 1}', '{"a": "' + "x" * 129 + '"}', "[" * 5_000, r'{"a": "\ud800"}')
    for wrong in wrongs:
        with pytest.raises(FieldInvalidError, match="x-tfy-metadata"):
            read_wish(WISH, wrong)


def of_wandb(**changes: Any) -> list[Inner]:
    """One integration."""
    return [{"type": "wandb", "wandb": {"project": "p", **changes}}]


def test_integrations_are_of_one_kind() -> None:
    wandb = {"project": "p", "name": None, "entity": "e", "tags": ["a"]}
    good = {"type": "wandb", "wandb": wandb}
    check_integrations({"integrations": [good] * 5}, installed=True)
    check_integrations({"integrations": None}, installed=False)
    check_integrations({"integrations": []}, installed=False)
    for wrong, field in (
        ([good] * 6, "integrations"),
        ({}, "integrations"),
        ([{"type": "other"}], "integrations[0].type"),
        ([good, {"type": "wandb"}], "integrations[1].wandb.project"),
        ([good | {"key": "secret"}], "integrations[0].key"),
        (of_wandb(project="p" * 129), "integrations[0].wandb.project"),
        (of_wandb(project="a/b"), "integrations[0].wandb.project"),
        (of_wandb(name="a?"), "integrations[0].wandb.name"),
        (of_wandb(entity=7), "integrations[0].wandb.entity"),
        (of_wandb(tags=["a" * 65]), "integrations[0].wandb.tags"),
        (of_wandb(tags=["a"] * 51), "integrations[0].wandb.tags"),
        (of_wandb(api_key="secret"), "integrations[0].wandb.api_key"),
    ):
        with pytest.raises(FieldInvalidError) as caught:
            check_integrations({"integrations": wrong}, installed=True)
        assert caught.value.metadata["field"] == field


def test_without_the_library_integrations_are_refused_with_what_to_install() -> None:
    with pytest.raises(FieldInvalidError, match=r'pip install "trine\[wandb\]"') as caught:
        check_integrations({"integrations": of_wandb()}, installed=False)
    assert caught.value.metadata["field"] == "integrations"


def test_a_fingerprint_tells_requests_apart_and_repeats_not() -> None:
    bodies: list[Inner] = [
        {},
        {"suffix": "x"},
        {"seed": 0},
        {"metadata": {}},
        {"metadata": {"a": "1", "b": "2"}},
        {"validation_file": "file-1"},
        {"hyperparameters": {"n_epochs": 1}},
        method("supervised", n_epochs=1),
        {"model": "trine-dating"},
        {"training_file": "file-2"},
    ]
    prints = [fingerprint(read_wish(WISH | body, "")) for body in bodies]
    assert len(set(prints)) == len(bodies)
    turned = {"metadata": {"b": "2", "a": "1"}} | dict(reversed(WISH.items()))
    assert fingerprint(read_wish(turned, "")) == prints[4]
    assert fingerprint(read_wish(WISH | {"suffix": None, "seed": None}, "")) == prints[0]
