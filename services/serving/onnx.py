"""Heads as onnxruntime sessions."""

from collections.abc import Mapping

import numpy as np
import onnxruntime

from services.serving.core.candidates import Floats
from services.serving.core.errors import HeadRefusedError
from services.serving.core.factors import Factors

GOLDEN_ROWS_MIN = 2
"""A seeker and a candidate."""
GOLDEN_TOLERANCE = 1e-4
"""Between the trainer's machine and this one: other CPUs add in another order."""

BATCH_ROWS = 4_096
"""People that a head is tried with at once."""


class OnnxScorers:
    """The parts of a head. onnxruntime sessions may run in several threads at once."""

    def __init__(self, query_map: bytes, person: bytes, light: bytes, cross: bytes) -> None:
        self._query_map = _Part(query_map)
        self._person = _Part(person)
        self._light = _Part(light)
        self._cross = _Part(cross)

    def map_query(self, columns_c: Floats, vector_d: Floats) -> Floats:
        """Maps one seeker into the candidates' space: a unit vector [d]."""
        inputs = {"columns": columns_c[np.newaxis], "vectors": vector_d[np.newaxis]}
        query: Floats = self._query_map.run(inputs)[0]
        return query

    def describe(self, columns_nc: Floats, counts_n4: Floats, table_n2: Floats) -> Floats:
        """Turns people into states [n, k]."""
        return self._person.run({"columns": columns_nc, "counts": counts_n4, "table": table_n2})

    def score_light(self, seekers: Floats, candidates_nk: Floats, cosines_n: Floats) -> Floats:
        """Returns n logits."""
        return self._light.run(_pair(seekers, candidates_nk, cosines_n))[:, 0]

    def score_cross(self, seekers: Floats, candidates_nk: Floats, cosines_n: Floats) -> Floats:
        """Returns n probabilities."""
        return self._cross.run(_pair(seekers, candidates_nk, cosines_n))[:, 0]


class OnnxTextMap:
    """The query map of a head or model, for texts: what it reads of a person is unknown of them."""

    def __init__(self, query_map: bytes, columns_count: int) -> None:
        self._map = _Part(query_map)
        self._rest: dict[str, Floats] = {}
        if "columns" in self._map.inputs:
            self._rest["columns"] = np.full((1, columns_count), np.nan, np.float32)

    def map_texts(self, vectors_nd: Floats) -> Floats:
        """Maps vectors [n, d] to unit vectors [n, d], one by one: a map takes one seeker."""
        return np.concatenate(
            [self.map_one(vector, **self._rest) for vector in vectors_nd[:, np.newaxis]]
        )

    def map_one(self, vector_1d: Floats, **columns: Floats) -> Floats:
        """Maps one vector [1, d]; its columns [1, c] if the map reads any."""
        return self._map.run({"vectors": vector_1d, **columns})

    def check(self, golden: Mapping[str, Floats]) -> None:
        """Refuses a map that does not give the queries that its trainer saw.

        Raises:
            HeadRefusedError: a query is further off than another CPU explains.
        """
        try:
            expected = golden["query"]
            rows = range(len(expected))
            columns = {"columns": golden["columns"]} if self._rest else {}
            found = [
                self.map_one(
                    golden["vectors"][row : row + 1],
                    **{name: array[row : row + 1] for name, array in columns.items()},
                )
                for row in rows
            ]
            same = np.allclose(np.concatenate(found), expected, rtol=0, atol=GOLDEN_TOLERANCE)
        except Exception as error:  # a missing array, or whatever a wrong graph makes it say
            raise HeadRefusedError(f"cannot be run: {error}") from error
        if not same:
            raise HeadRefusedError("gives another query than its golden vectors say")


class _Part:
    """One session."""

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
        self.inputs = {each.name for each in self._session.get_inputs()}

    def run(self, inputs: Mapping[str, Floats]) -> Floats:
        (output,) = self._session.run(None, inputs)
        result: Floats = output
        return result


def check_golden(scorers: OnnxScorers, golden: Mapping[str, Floats]) -> None:
    """Refuses a head that does not give the outputs that its trainer saw.

    Raises:
        HeadRefusedError: an output is absent, or further off than another CPU explains.
    """
    if len(golden.get("states", ())) < GOLDEN_ROWS_MIN:
        raise HeadRefusedError("has golden vectors of nobody")
    try:
        states = golden["states"]
        pair = (states[0], states[1:], golden["cosines"][:, 0])
        people = (golden["columns"], golden["counts"], golden["table"])
        pairs = {
            "query": (
                scorers.map_query(golden["columns"][0], golden["vectors"][0]),
                golden["query"][0],
            ),
            "states": (scorers.describe(*people), states),
            "light": (scorers.score_light(*pair), golden["light"][:, 0]),
            "cross": (scorers.score_cross(*pair), golden["cross"][:, 0]),
        }
    except Exception as error:  # a missing array, or whatever a wrong graph makes onnxruntime say
        raise HeadRefusedError(f"cannot be run: {error}") from error
    for name, (found, expected) in pairs.items():
        if found.shape != expected.shape or not np.allclose(
            found, expected, rtol=0, atol=GOLDEN_TOLERANCE
        ):
            raise HeadRefusedError(f"gives another {name} than its golden vectors say")


def check_batches(scorers: OnnxScorers, golden: Mapping[str, Floats]) -> None:
    """Refuses a head whose word on somebody depends on who is asked about with them.

    It is asked about everyone alone and about thousands at once, and about pairs of one seeker and
    of one each: so what it takes at a match is taken here before.

    Raises:
        HeadRefusedError: an output differs, or cannot be given.
    """
    states, cosines = golden["states"], golden["cosines"][:, 0]
    people = [golden["columns"], golden["counts"], golden["table"]]
    for rows in (np.arange(1), np.arange(BATCH_ROWS) % (len(states) - 1)):
        others = rows + 1
        pairs = (states[others], cosines[rows])
        seekers = np.repeat(states[:1], len(rows), axis=0)
        try:
            found = {
                "states": (scorers.describe(*(a[others] for a in people)), states[others]),
                "light": (scorers.score_light(states[0], *pairs), golden["light"][rows, 0]),
                "cross": (scorers.score_cross(seekers, *pairs), golden["cross"][rows, 0]),
            }
        except Exception as error:  # whatever a wrong graph makes onnxruntime say
            raise HeadRefusedError(f"cannot be run: {error}") from error
        for name, (given, expected) in found.items():
            if not np.allclose(given, expected, rtol=0, atol=GOLDEN_TOLERANCE):
                raise HeadRefusedError(f"gives another {name} to {len(rows)} at once")


def check_factors(factors: Factors, golden: Mapping[str, Floats]) -> None:
    """Refuses vectors of candidates that do not give what their trainer saw.

    Raises:
        HeadRefusedError: an output is absent, or further off than another CPU explains.
    """
    try:
        query = factors.query(golden["history"].astype(np.int32))
        found = factors.candidates[: len(golden["affinities"])] @ query
        right = np.allclose(query, golden["factor_query"], rtol=0, atol=GOLDEN_TOLERANCE)
        right &= np.allclose(found, golden["affinities"], rtol=0, atol=GOLDEN_TOLERANCE)
    except Exception as error:  # a missing array, or one of another shape
        raise HeadRefusedError(f"its vectors of candidates cannot be tried: {error}") from error
    if not right:
        raise HeadRefusedError("gives other affinities than its golden vectors say")


def _pair(seekers: Floats, candidates_nk: Floats, cosines_n: Floats) -> dict[str, Floats]:
    return {
        "seeker": np.atleast_2d(seekers),
        "candidates": candidates_nk,
        "cosines": cosines_n[:, np.newaxis],
    }
