"""Heads as onnxruntime sessions."""

from collections.abc import Mapping

import numpy as np
import onnxruntime

from services.serving.core.candidates import Floats
from services.serving.core.errors import HeadRefusedError
from services.serving.core.ports import People

GOLDEN_TOLERANCE = 1e-4
"""Between the trainer's machine and this one: other CPUs add in another order."""


class OnnxScorers:
    """The three parts of a head. onnxruntime sessions may run in several threads at once."""

    def __init__(self, query_map: bytes, light: bytes, cross: bytes) -> None:
        self._query_map = _Part(query_map)
        self._light = _Part(light)
        self._cross = _Part(cross)

    def map_query(self, seeker: People) -> Floats:
        """Maps one seeker into the candidates' space: a unit vector [dim]."""
        query: Floats = self._query_map.run(seeker, None)[0]
        return query

    def score_light(self, seeker: People, candidates: People) -> Floats:
        """Scores n candidates linearly: [n]."""
        return self._light.run(seeker, candidates)

    def score_cross(self, seeker: People, candidates: People) -> Floats:
        """Returns n probabilities."""
        return self._cross.run(seeker, candidates)


class _Part:
    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        # Matches run beside each other in threads of their own: threads inside one would only
        # wait for each other.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has a dozen kinds
            raise HeadRefusedError(f"cannot be opened: {error}") from error
        self._names = {node.name for node in self._session.get_inputs()}

    def run(self, seeker: People, candidates: People | None) -> Floats:
        feed = _named("seeker", seeker)
        if candidates is not None:
            feed |= _named("candidate", candidates)
        wanted = {name: array for name, array in feed.items() if name in self._names}
        (output,) = self._session.run(None, wanted)
        result: Floats = output
        return result


def check_golden(scorers: OnnxScorers, golden: Mapping[str, Floats]) -> None:
    """Refuses a head that does not give the outputs that its trainer saw.

    Raises:
        HeadRefusedError: an output is absent, or further off than another CPU explains.
    """
    try:
        seeker, candidates = _people("seeker", golden), _people("candidate", golden)
        pairs = {
            "query": (scorers.map_query(seeker), golden["query"]),
            "light": (scorers.score_light(seeker, candidates), golden["light"]),
            "cross": (scorers.score_cross(seeker, candidates), golden["cross"]),
        }
    except HeadRefusedError:
        raise
    except Exception as error:  # a missing array, or whatever a wrong graph makes onnxruntime say
        raise HeadRefusedError(f"cannot be run: {error}") from error
    for name, (found, expected) in pairs.items():
        if found.shape != expected.shape or not np.allclose(
            found, expected, rtol=0, atol=GOLDEN_TOLERANCE
        ):
            raise HeadRefusedError(f"gives another {name} than its golden vectors say")


def _named(who: str, people: People) -> dict[str, Floats]:
    return {
        f"{who}_columns": people.columns,
        f"{who}_counts": people.counts,
        f"{who}_vectors": people.vectors,
    }


def _people(who: str, arrays: Mapping[str, Floats]) -> People:
    return People(
        columns=arrays[f"{who}_columns"],
        counts=arrays[f"{who}_counts"],
        vectors=arrays[f"{who}_vectors"],
    )
