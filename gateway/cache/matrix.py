"""The vectors of one scope, and which are nearest to a query: compared one by one, in a big scope by their codes first.

Arithmetic only: knows no entry, no clock, no threads but that a `View` may be scanned in another one.

Up to `EXACT_ROWS` rows every vector is compared. With more, each row has a code of `BITS` bits, the sides of so many
random hyperplanes that it lies on; two vectors at an angle a differ in a / pi of them (Charikar, STOC 2002). The rows
whose codes differ least from the query's are compared in full: returned cosines are always exact, and only rows far
from the query can be overlooked, none that a cache would serve (docs/decisions/006-vector-store.md has the figures).
A code is a thirty-second of its vector: what a scan waits for is memory.
"""

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Rows = NDArray[np.intp]

EXACT_ROWS = 1024
BLOCK_ROWS = 4096
"""Vectors lie in blocks, so that growing never copies more than one: a second block stays where it is."""
SCAN_ROWS = 16_384
"""So many words stay in the processor's cache between two steps of a scan."""
BITS = 384
CANDIDATES = 256
_SEED = 20_231_107
_GONE = -2.0
"""Less than any cosine."""
_FAR = BITS + 1


class View(NamedTuple):
    """The codes at one moment. Another thread may scan it while rows change: what it finds is then ranked anew."""

    rows: int
    codes: NDArray[np.uint64]
    expires: NDArray[np.float64]

    def candidates(self, query: Vector, limit: int, now: float) -> Rows:
        """The rows whose codes are nearest to the query's, `CANDIDATES` of them or `limit` if that is more."""
        differ = np.zeros(self.rows, np.uint16)
        asked = _encode(query[np.newaxis])[:, 0]
        for start in range(0, self.rows, SCAN_ROWS):
            part = differ[start : start + SCAN_ROWS]
            for word, sides in zip(self.codes[:, start : start + len(part)], asked, strict=True):
                part += np.bitwise_count(word ^ sides)
        differ[self.expires[: self.rows] <= now] = _FAR
        count = max(limit, CANDIDATES)
        return np.argpartition(differ, count)[:count] if count < self.rows else np.arange(self.rows)


class Matrix:
    """Rows `0..rows-1` of `float32[d]`, unit norm, each with the time it expires.

    `nbytes` is what they take; what a block has allocated but never touched takes no memory and does not count.
    """

    __slots__ = ("_blocks", "_coded", "_codes", "_expires", "dimension", "nbytes", "rows")

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.rows = 0
        self._blocks: list[Vector] = [np.empty((1, dimension), np.float32)]
        self._expires: NDArray[np.float64] = np.empty(1)
        self._codes: NDArray[np.uint64] = np.empty((BITS // 64, 0), np.uint64)
        self._coded = 0
        """Rows below have their codes."""
        self.nbytes = self._count()

    def add(self, vector: Vector, expires_s: float) -> int:
        """The new row's place: always the last."""
        row = self.rows
        block, place = divmod(row, BLOCK_ROWS)
        if block == len(self._blocks):
            self._blocks.append(np.empty((BLOCK_ROWS, self.dimension), np.float32))
        elif block == 0 and place == len(self._blocks[0]):
            self._blocks[0] = np.resize(self._blocks[0], (2 * place, self.dimension))
        if row == len(self._expires):
            self._expires = np.resize(self._expires, 2 * row)
        self._blocks[block][place] = vector
        self._expires[row] = expires_s
        self.rows = row + 1
        self.nbytes = self._count()
        return row

    def remove(self, row: int) -> int:
        """Frees a row. The last row moves into its place: returns where the moved row was (`row` itself: none did)."""
        last = self.rows - 1
        (block, place), (last_block, last_place) = divmod(row, BLOCK_ROWS), divmod(last, BLOCK_ROWS)
        if row != last:
            self._blocks[block][place] = self._blocks[last_block][last_place]
            self._expires[row] = self._expires[last]
            if last < self._coded:
                self._codes[:, row] = self._codes[:, last]
            else:
                self._coded = min(self._coded, row)
        self.rows = last
        self._coded = min(self._coded, last)
        self._shrink(last_block, last_place)
        self.nbytes = self._count()
        return last

    def expire(self, row: int) -> None:
        """No look-up finds it any more."""
        self._expires[row] = -np.inf

    def index(self) -> None:
        """Makes the codes that are missing: of one row after a put, of all when a scope has become big."""
        if self.rows <= EXACT_ROWS or self._coded == self.rows:
            return
        if self.rows > self._codes.shape[1]:
            codes = np.empty((BITS // 64, 2 * self.rows), np.uint64)
            codes[:, : self._coded] = self._codes[:, : self._coded]
            self._codes = codes
        while self._coded < self.rows:
            block, start = divmod(self._coded, BLOCK_ROWS)
            vectors = self._blocks[block][start : min(BLOCK_ROWS, self.rows - block * BLOCK_ROWS)]
            self._codes[:, self._coded : self._coded + len(vectors)] = _encode(vectors)
            self._coded += len(vectors)
        self.nbytes = self._count()

    def nearest(self, query: Vector, limit: int, now: float) -> list[tuple[int, float]]:
        """At most `limit` unexpired rows with their cosines, the highest first."""
        if self.rows > EXACT_ROWS:
            return self.rank(query, self.view().candidates(query, limit, now), limit, now)
        similarities = np.vecdot(self._blocks[0][: self.rows], query)
        return _top(np.where(self._expires[: self.rows] > now, similarities, _GONE), limit)

    def view(self) -> View:
        """What `View.candidates` scans."""
        self.index()
        return View(self.rows, self._codes, self._expires)

    def rank(self, query: Vector, candidates: Rows, limit: int, now: float) -> list[tuple[int, float]]:
        """As `nearest`, of these rows; places that hold no row any more are skipped."""
        rows = np.sort(candidates[candidates < self.rows])
        ends = np.searchsorted(rows, np.arange(1, len(self._blocks) + 1) * BLOCK_ROWS).tolist()
        similarities, start = np.empty(len(rows), np.float32), 0
        for number, end in enumerate(ends):
            if start < end:
                inside = self._blocks[number][rows[start:end] - number * BLOCK_ROWS]
                similarities[start:end] = np.vecdot(inside, query)
                start = end
        ranked = _top(np.where(self._expires[rows] > now, similarities, _GONE), limit)
        return [(int(rows[place]), similarity) for place, similarity in ranked]

    def _shrink(self, last_block: int, last_place: int) -> None:
        if last_block and last_place == 0:
            self._blocks.pop()
        elif last_block == 0 and last_place < len(self._blocks[0]) // 4:
            self._blocks[0] = self._blocks[0][: len(self._blocks[0]) // 2].copy()
        if self.rows < len(self._expires) // 4:
            self._expires = self._expires[: len(self._expires) // 2].copy()
        if self.rows < self._codes.shape[1] // 4:
            self._codes = self._codes[:, : self._codes.shape[1] // 2].copy()

    def _count(self) -> int:
        rows = len(self._blocks[0]) + max(0, self.rows - BLOCK_ROWS)
        return 4 * rows * self.dimension + self._expires.nbytes + self._codes.nbytes


def _best(scores: NDArray[np.float32], limit: int) -> Rows:
    """The places of the `limit` highest scores, in no order."""
    if limit >= len(scores):
        return np.arange(len(scores))
    return np.argpartition(scores, len(scores) - limit)[len(scores) - limit :]


def _top(scores: NDArray[np.float32], limit: int) -> list[tuple[int, float]]:
    """At most `limit` places and their scores, the highest first, as cosines; without those that are `_GONE`."""
    best = _best(scores, limit)
    ranked = sorted(zip(scores[best].tolist(), best.tolist(), strict=True), reverse=True)
    return [(place, min(1.0, max(-1.0, score))) for score, place in ranked if score > _GONE]


def _encode(vectors: Vector) -> NDArray[np.uint64]:
    """The codes of `float32[n, d]` as `uint64[BITS / 64, n]`: a word of all rows lies together."""
    sides = vectors @ _hyperplanes(vectors.shape[1]) > 0
    return np.packbits(sides, axis=1).view(np.uint64).T


@functools.cache
def _hyperplanes(dimension: int) -> Vector:
    """`float32[dimension, BITS]`, the same in every process; orthogonal as far as the dimension goes, which is best."""
    rng = np.random.default_rng(_SEED)
    turns = [np.linalg.qr(rng.standard_normal((dimension, dimension)))[0] for _ in range(-(-BITS // dimension))]
    return np.concatenate(turns, axis=1)[:, :BITS].astype(np.float32)
