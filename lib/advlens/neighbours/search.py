"""The nearest rows of a large matrix: exactly, or by one of FAISS's approximate indexes."""

import abc

import faiss
import numpy as np

from advlens.arrays import Array

WIDE, MANY = 1000, 20_000  # columns and rows from which on it pays to look at a projection first
AXES = 512  # columns of that projection
SAMPLE = 2048  # rows whose principal axes it is made of
ROUNDS = (4, 16)  # rows that the projection proposes for each neighbour wanted, the first time and the second
FACTORY = {"ivf": "IVF{lists},Flat", "hnsw": "HNSW32"}  # FAISS's names of the approximate indexes
SEARCHES = ("exact", *FACTORY)
SHARE_OF_LISTS = 1 / 16  # how many of an inverted file's lists are looked through


class RowSearch(abc.ABC):
    """Nearest rows by Euclidean distance."""

    @abc.abstractmethod
    def nearest(self, queries: Array, k: int) -> Array:
        """(n, k) int64 numbers of the nearest rows of (n, d) float32 queries, nearest first."""


class Projection:
    """Rows on some orthonormal axes, and the norm of what lies outside these: vectors that are never further apart.

    Args:
        rows: (n, d) float32; the axes are principal ones of a sample of them.
    """

    def __init__(self, rows: Array) -> None:
        sample = rows[np.random.default_rng(0).permutation(len(rows))[:SAMPLE]]  # any axes are right, these are fast
        weights = np.linalg.eigh(sample @ sample.T)[1][:, ::-1][:, :AXES]
        self.axes = np.linalg.qr(sample.T @ weights)[0]

    def __call__(self, rows: Array) -> Array:
        """(n, a + 1) float32 of (n, d)."""
        return np.concatenate([self._of(rows[i : i + SAMPLE]) for i in range(0, len(rows), SAMPLE)])

    def _of(self, rows: Array) -> Array:
        inside = rows @ self.axes
        outside = np.square(rows).sum(axis=1) - np.square(inside).sum(axis=1)
        return np.column_stack([inside, np.sqrt(np.maximum(outside, 0))]).astype(np.float32)


class ExactSearch(RowSearch):
    """All true neighbours, in a fraction of the time that all distances take.

    Args:
        rows: (n, d) float32, which are kept, not copied.

    Notes:
        Short vectors of a `Projection` are never further apart than the long ones: by Pythagoras inside its axes, by
        the triangle inequality outside them. So a query's true neighbours are among the rows nearest to it in the
        projection as soon as the last of these is further away there than the k-th best of them truly is (but for
        rounding in float32, as in all distances). Queries for which that does not hold get more candidates, at last
        all rows. Narrow rows, and few, are compared directly.

    Source: filter and refine with a lower bound, Faloutsos et al. 1994.
    """

    def __init__(self, rows: Array) -> None:
        self._rows = rows
        pays = len(rows) >= MANY and rows.shape[1] >= WIDE
        self._projection = Projection(rows) if pays else None
        self._short = self._projection(rows) if pays else rows  # pyright: ignore[reportOptionalCall]

    def nearest(self, queries: Array, k: int) -> Array:
        """See `RowSearch.nearest`."""
        queries = np.ascontiguousarray(queries, np.float32)
        found = np.empty((len(queries), k), np.int64)
        left = np.arange(len(queries))
        for more in ROUNDS if self._projection else ():
            if len(left) and more * k < len(self._rows):
                found[left], is_certain = self._among_candidates(queries[left], k, more * k)
                left = left[~is_certain]
        if len(left):
            found[left] = faiss.knn(queries[left], self._rows, k)[1]
        return found

    def _among_candidates(self, queries: Array, k: int, candidates: int) -> tuple[Array, Array]:
        """(n, k) the best of each query's candidates, and (n,) bool, whether no other row can be better."""
        bounds, rows = faiss.knn(self._projection(queries), self._short, candidates)  # pyright: ignore[reportOptionalCall]
        distances = np.empty_like(bounds)
        n, d = queries.shape
        faiss.fvec_L2sqr_by_idx(*map(faiss.swig_ptr, (distances, queries, self._rows, rows)), d, n, candidates)  # pyright: ignore[reportAttributeAccessIssue]
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        worst = np.take_along_axis(distances, order[:, -1:], axis=1)[:, 0]
        return np.take_along_axis(rows, order, axis=1), bounds[:, -1] >= worst


class ApproximateSearch(RowSearch):
    """Most of the neighbours, by one of FAISS's indexes; wide rows are projected first.

    Args:
        rows: (n, d) float32; kind: a key of `FACTORY`.

    Notes:
        An index that looks at fewer than k rows for a query says so by the row -1: that query is compared with all.
    """

    def __init__(self, rows: Array, *, kind: str) -> None:
        self._projection = Projection(rows) if rows.shape[1] >= WIDE else None
        self._short = self._projection(rows) if self._projection else rows
        lists = max(int(np.sqrt(len(rows))), 1)
        self._index = faiss.index_factory(self._short.shape[1], FACTORY[kind].format(lists=lists))
        if kind == "ivf":
            self._index.nprobe = max(round(lists * SHARE_OF_LISTS), 1)  # pyright: ignore[reportAttributeAccessIssue]
        self._index.train(self._short)
        self._index.add(self._short)

    def nearest(self, queries: Array, k: int) -> Array:
        """See `RowSearch.nearest`."""
        queries = np.ascontiguousarray(queries, np.float32)
        queries = self._projection(queries) if self._projection else queries
        found = self._index.search(queries, k)[1]
        lacking = np.flatnonzero((found < 0).any(axis=1))
        if len(lacking):
            found[lacking] = faiss.knn(queries[lacking], self._short, k)[1]
        return found


def row_search(rows: Array, *, kind: str = "exact") -> RowSearch:
    """The search of that kind, one of `SEARCHES`, over (n, d) float32 rows.

    Raises:
        ValueError: for an unknown kind.
    """
    if kind not in SEARCHES:
        raise ValueError(f"search must be one of {', '.join(SEARCHES)}, got {kind!r}")
    return ExactSearch(rows) if kind == "exact" else ApproximateSearch(rows, kind=kind)


def without_own(found: Array, own: Array) -> Array:
    """(n, …, k + 1) row numbers without each query's own one, (n,), or without the furthest where a twin pushed it out.

    Returns:
        (n, …, k).
    """
    is_own = found == own.reshape(-1, *[1] * (found.ndim - 1))
    is_own[..., -1] |= ~is_own.any(axis=-1)
    return found[~is_own].reshape(*found.shape[:-1], -1)


def recall(found: Array, truth: Array) -> float:
    """The share of true neighbours, (…, k) row numbers, that are among those found, (…, k)."""
    pairs = zip(*(rows.reshape(-1, rows.shape[-1]) for rows in (truth, found)), strict=True)
    return float(np.mean([np.isin(true, got).mean() for true, got in pairs]))
