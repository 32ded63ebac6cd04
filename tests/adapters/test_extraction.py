"""Members of enums by the real encoder, on sentences that were labelled by hand."""

import pytest

from services.mesh.fleet import encoder_path
from services.serving.encoder import OnnxEncoder
from services.triplets.core.extraction.members import member_texts, read_member, readable
from tests.support.labelled_sentences import LABELLED


@pytest.fixture(scope="module")
def encoder() -> OnnxEncoder:
    return OnnxEncoder("all-minilm-l6-v2", encoder_path(), threads=1)


@pytest.mark.parametrize(("parity", "recall_min"), [(0, 0.4), (1, 0.55)])
def test_members_are_read_with_the_stated_precision(
    encoder: OnnxEncoder, parity: int, recall_min: float
) -> None:
    right = wrong = asked = 0
    for fields, sentence, labels in LABELLED[parity::2]:
        texts = readable(sentence)
        vectors, _ = encoder._encode([sentence])
        for field in fields:
            members, _ = encoder._encode(member_texts(field))
            found = read_member(field, texts, vectors[: len(texts)], members)
            asked += field.name in labels
            if found is not None:
                right += found.value == labels.get(field.name)
                wrong += found.value != labels.get(field.name)
    assert right / (right + wrong) >= 0.95
    assert right / asked >= recall_min


def test_the_fixture_is_large_enough_and_names_members() -> None:
    assert len(LABELLED) >= 60
    for fields, _, labels in LABELLED:
        members = {field.name: field.members for field in fields}
        assert all(value in members[name] for name, value in labels.items())
