"""The rows of one scope: what is nearest, what moves when one goes."""

import math

import numpy as np
import pytest

from gateway.cache.matrix import BLOCK_ROWS, EXACT_ROWS, Matrix
from tests.support.cache_stores import units

DIMENSION = 64
LONG = math.inf


def filled(rows, expires_s=LONG):
    matrix = Matrix(rows.shape[1])
    for row in rows:
        matrix.add(row, expires_s)
    matrix.index()
    return matrix


def near(rows, cosine, seed):
    """Of each row a neighbour at exactly this cosine."""
    other = units(len(rows), rows.shape[1], seed)
    across = other - np.sum(other * rows, axis=1, keepdims=True) * rows
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    return (cosine * rows + math.sqrt(1 - cosine**2) * across).astype(np.float32)


def test_a_small_scope_agrees_with_brute_force():
    rows = units(EXACT_ROWS, DIMENSION)
    matrix = filled(rows)
    for query in units(20, DIMENSION, seed=1):
        cosines = rows @ query
        found = matrix.nearest(query, 5, 0.0)
        assert [row for row, _ in found] == np.argsort(-cosines)[:5].tolist()
        assert [cosine for _, cosine in found] == pytest.approx(np.sort(cosines)[::-1][:5].tolist(), abs=1e-6)


@pytest.mark.parametrize("cosine", [0.6, 0.75, 0.9, 1.0])
def test_a_big_scope_finds_every_neighbour_that_a_cache_could_serve(cosine):
    rows = units(3 * BLOCK_ROWS + 10, 384)
    matrix = filled(rows)
    picked = np.arange(0, len(rows), 97)
    for place, query in zip(picked, near(rows[picked], cosine, seed=2), strict=True):
        row, similarity = matrix.nearest(query, 4, 0.0)[0]
        assert row == place
        assert similarity == pytest.approx(cosine, abs=1e-5)


def test_more_neighbours_than_candidates_are_still_ranked_by_their_exact_cosines():
    rows = units(2 * EXACT_ROWS, DIMENSION)
    found = filled(rows).nearest(rows[7], 400, 0.0)
    assert len(found) == 400
    assert found[0][0] == 7
    cosines = [cosine for _, cosine in found]
    assert cosines == sorted(cosines, reverse=True)
    assert cosines == pytest.approx([float(rows[row] @ rows[7]) for row, _ in found], abs=1e-6)


@pytest.mark.parametrize("count", [5, EXACT_ROWS, EXACT_ROWS + 1, BLOCK_ROWS + 3])
def test_after_removals_the_rows_are_those_that_are_left(count):
    rows = units(count, DIMENSION)
    matrix, owners = filled(rows), list(range(count))
    rng = np.random.default_rng(4)
    while len(owners) > 2:
        for _ in range(max(1, len(owners) // 3)):
            place = int(rng.integers(len(owners)))
            came_from = matrix.remove(place)
            assert came_from == len(owners) - 1
            owners[place] = owners[came_from]
            owners.pop()
        for place in {0, len(owners) // 2, len(owners) - 1}:
            row, cosine = matrix.nearest(rows[owners[place]], 1, 0.0)[0]
            assert (row, cosine) == (place, pytest.approx(1.0, abs=1e-6))


def test_a_row_that_is_added_after_removals_is_found():
    rows = units(BLOCK_ROWS + 50, DIMENSION)
    matrix = filled(rows[:-1])
    for _ in range(100):
        matrix.remove(0)
    place = matrix.add(rows[-1], LONG)
    assert matrix.nearest(rows[-1], 1, 0.0)[0] == (place, pytest.approx(1.0, abs=1e-6))


def test_a_row_without_a_code_may_take_the_place_of_one_with_a_code():
    rows = units(EXACT_ROWS + 210, DIMENSION)
    matrix = filled(rows[:-10])
    for row in rows[-10:]:
        matrix.add(row, LONG)
    matrix.remove(0)
    assert matrix.nearest(rows[-1], 1, 0.0)[0] == (0, pytest.approx(1.0, abs=1e-6))


def test_memory_is_given_back():
    rows = units(BLOCK_ROWS + 50, DIMENSION)
    matrix = filled(rows)
    full = matrix.nbytes
    assert full > len(rows) * DIMENSION * 4
    while matrix.rows > 10:
        matrix.remove(0)
    assert matrix.nbytes < full / 50


@pytest.mark.parametrize("count", [10, 2 * EXACT_ROWS])
def test_expired_rows_are_not_found_however_many_they_are(count):
    rows = units(count, DIMENSION)
    matrix = filled(rows[:-1], expires_s=10.0)
    place = matrix.add(rows[-1], 20.0)
    assert matrix.nearest(rows[0], 4, 9.9)[0][0] == 0
    assert [row for row, _ in matrix.nearest(rows[0], 4, 10.0)] == [place]
    matrix.expire(place)
    assert matrix.nearest(rows[0], 4, 10.0) == []


def test_what_a_scan_found_in_an_older_view_is_ranked_by_the_rows_of_now():
    rows = units(2 * EXACT_ROWS, DIMENSION)
    matrix = filled(rows)
    view = matrix.view()
    while matrix.rows > 100:
        matrix.remove(0)
    found = matrix.rank(rows[50], view.candidates(rows[50], 4, 0.0), 4, 0.0)
    assert all(row < 100 for row, _ in found)
    now = dict(matrix.nearest(rows[50], 100, 0.0))
    assert all(cosine == pytest.approx(now[row], abs=1e-6) for row, cosine in found)


def test_cosines_never_leave_their_range():
    row = units(1, 384)[0]
    row *= np.float32(1.0000005)
    assert filled(row[np.newaxis]).nearest(row, 1, 0.0) == [(0, 1.0)]
