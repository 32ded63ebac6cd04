"""The approximate index: inverted lists of faiss over the candidates' frozen vectors.

A head asks with mapped queries, which lie outside the candidates' own distribution. Inverted lists
bear that better than graphs, but need more probes, and how many depends on the map: so each head is
calibrated with its own queries. That is done on a sample of the rows, whose size does not grow with
the domain.
"""

import faiss
import numpy as np

from services.serving.core.candidates import Floats, Mask, Rows, View
from services.serving.core.ports import Index

RECALL_MIN = 0.99
RECALL_DEPTH = 100
SAMPLE_ROWS_MAX = 50_000
TRAINING_ROWS_PER_LIST = 64


class FaissIndexBuilder:
    """Builds inverted lists with one thread: requests have the other."""

    def build(self, view: View) -> Index:
        """Builds an index over all rows of a view, the dead included: searches mask them."""
        faiss.omp_set_num_threads(1)
        return FaissIndex(np.ascontiguousarray(view.vectors[: view.size]), view.generation)


class FaissIndex:
    """About √n lists of candidates, each around a centroid."""

    def __init__(self, vectors: Floats, generation: int) -> None:
        self.rows, dim = vectors.shape
        self.generation = generation
        lists = max(1, int(np.sqrt(self.rows)))
        random = np.random.default_rng(0)
        training = random.permutation(self.rows)[: lists * TRAINING_ROWS_PER_LIST]
        quantizer = faiss.IndexFlatIP(dim)
        self._index = faiss.IndexIVFFlat(quantizer, dim, lists, faiss.METRIC_INNER_PRODUCT)
        self._index.train(vectors[np.sort(training)])
        self._index.add(vectors)
        self._centroids = quantizer.reconstruct_n(0, lists)
        sample = np.sort(random.permutation(self.rows)[:SAMPLE_ROWS_MAX])
        self._sample = vectors[sample]
        self._sample_lists = quantizer.search(self._sample, 1)[1][:, 0]

    def search(self, query: Floats, mask: Mask, top_k: int, probes_count: int) -> Rows:
        """Returns up to `top_k` rows inside the mask that lie nearest to the query."""
        # faiss' stubs describe its C++ constructors, not those that Python has.
        selector = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))  # type: ignore[call-arg, arg-type]
        parameters = faiss.SearchParametersIVF(sel=selector, nprobe=max(1, probes_count))  # type: ignore[call-arg]
        _, found = self._index.search(query[np.newaxis], top_k, params=parameters)
        rows: Rows = found[0][found[0] >= 0]
        return rows

    def calibrate(self, queries: Floats) -> tuple[int, float]:
        """Returns the fewest probes that reach recall 0.99 on these queries, and the recall.

        A sample of share s of the rows has its own s x 100 nearest where all rows have their 100
        nearest: the lists that hold the former are those that hold the latter.
        """
        depth = max(1, round(RECALL_DEPTH * len(self._sample) / self.rows))
        order = np.argsort(-(queries @ self._centroids.T), axis=1)
        list_ranks = np.empty_like(order)
        np.put_along_axis(list_ranks, order, np.arange(order.shape[1])[np.newaxis], axis=1)
        needed: list[Rows] = []
        for query, ranks in zip(queries, list_ranks, strict=True):
            nearest = np.argpartition(-(self._sample @ query), depth - 1)[:depth]
            needed.append(ranks[self._sample_lists[nearest]])
        probes = np.sort(np.concatenate(needed)) + 1
        probes_count = int(probes[int(np.ceil(RECALL_MIN * len(probes))) - 1])
        return probes_count, float((probes <= probes_count).mean())
