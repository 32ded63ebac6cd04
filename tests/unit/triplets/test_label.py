"""Labels: which may be registered, and what may become of one that outcomes have used."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.triplets.core.errors import FieldInvalidError, LabelInUseError, TripletsError
from services.triplets.core.label import BUILT_IN, LABELS_MAX, Label, read_level, replace_labels
from services.triplets.core.outcome import LEVELS

LIKED = Label(name="super_like", level=3, weight=2.0)
MET = Label(name="met", level=2)
USED = {"met": dataclasses.replace(MET, used=True)}


def test_labels_are_replaced_as_a_whole() -> None:
    assert replace_labels({"met": MET}, [LIKED]) == {"super_like": LIKED}


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        ([dataclasses.replace(MET, name=name)], "labels[0].name")
        for name in ("", "Met", "1st", "x" * 33, "a-b", *BUILT_IN)
    ]
    + [
        ([LIKED, LIKED], "labels[1].name"),
        ([dataclasses.replace(MET, weight=0.0)], "labels[0].weight"),
        ([dataclasses.replace(MET, weight=101.0)], "labels[0].weight"),
        ([dataclasses.replace(MET, weight=float("nan"))], "labels[0].weight"),
        ([dataclasses.replace(MET, name=f"l{n}") for n in range(LABELS_MAX + 1)], "labels"),
    ],
)
def test_a_broken_label_names_its_fault(labels: list[Label], field: str) -> None:
    with pytest.raises(FieldInvalidError) as caught:
        replace_labels({}, labels)
    assert caught.value.metadata["field"] == field


def test_a_level_is_a_built_in_outcome() -> None:
    assert {read_level("level", name) for name in LEVELS} == set(range(4))
    with pytest.raises(FieldInvalidError):
        read_level("level", "retracted")


def test_a_used_label_may_change_its_weight_and_nothing_else() -> None:
    heavier = dataclasses.replace(MET, weight=5.0)
    assert replace_labels(USED, [heavier]) == {"met": dataclasses.replace(heavier, used=True)}
    with pytest.raises(LabelInUseError) as changed:
        replace_labels(USED, [LIKED, dataclasses.replace(MET, level=3)])
    assert changed.value.metadata["field"] == "labels[1].level"
    with pytest.raises(LabelInUseError) as gone:
        replace_labels(USED, [LIKED])
    assert gone.value.metadata["field"] == "labels"


label = st.builds(
    Label,
    name=st.sampled_from("abcd"),
    level=st.integers(0, 3),
    weight=st.floats(0.1, 10),
    used=st.booleans(),
)


@given(st.lists(label, unique_by=lambda label: label.name), st.lists(label))
def test_whatever_is_put_a_used_label_keeps_its_level(old: list[Label], new: list[Label]) -> None:
    before = {label.name: label for label in old}
    try:
        after = replace_labels(before, new)
    except TripletsError:
        return
    for name, known in before.items():
        if known.used:
            assert (after[name].level, after[name].used) == (known.level, True)
    assert all(not after[name].used for name in after.keys() - before.keys())
