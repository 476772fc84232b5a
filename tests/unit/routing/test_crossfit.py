"""Held-out scores: what they may know, and what they must not."""

import numpy as np
import pytest

from gateway.routing.crossfit import Inputs, cross_fit, drawn, group_folds, predict, row_folds
from gateway.routing.features import Features
from gateway.routing.metric import Rows, curve

WIDTH = len(Features._fields)


def inputs(n, seed, *, vectors=True):
    dice = np.random.default_rng(seed)
    found = dice.normal(size=(n, 16))
    return Inputs(
        dice.normal(size=(n, WIDTH)), found / np.linalg.norm(found, axis=1, keepdims=True) if vectors else None
    )


def test_folds_are_even_and_follow_the_seed():
    folds = row_folds(103, 5, 0)
    assert sorted(np.bincount(folds)) == [20, 20, 21, 21, 21]
    assert (folds == row_folds(103, 5, 0)).all()
    assert (folds != row_folds(103, 5, 1)).any()


def test_a_group_is_never_on_both_sides():
    dice = np.random.default_rng(0)
    groups = [f"g{i}" for i in dice.integers(0, 23, 900)]
    folds = group_folds(groups, 5, 0)
    for name in set(groups):
        assert len({fold for fold, group in zip(folds, groups, strict=True) if group == name}) == 1
    assert np.bincount(folds).min() > 120


def test_groups_fewer_than_folds_are_refused():
    with pytest.raises(ValueError, match="2 groups"):
        group_folds(["a", "b", "a"], 3, 0)


@pytest.mark.parametrize("vectors", [True, False])
def test_labels_that_are_noise_are_not_predicted(vectors):
    """A leak of a row's own label would show as an APGR far over one half."""
    dice = np.random.default_rng(1)
    gains = dice.choice([0.0, 1.0], 1_500)
    scores = cross_fit(inputs(1_500, 2, vectors=vectors), gains, row_folds(1_500, 5, 0))
    assert curve(scores, Rows(np.zeros(1_500), gains)).apgr == pytest.approx(0.5, abs=0.04)


def test_what_features_and_vectors_know_is_found():
    known = inputs(2_000, 3)
    for signal in (known.features[:, 0], 4 * known.vectors[:, 0]):
        gains = (signal + np.random.default_rng(4).normal(size=2_000) > 0).astype(float)
        scores = cross_fit(known, gains, row_folds(2_000, 5, 0))
        assert curve(scores, Rows(np.zeros(2_000), gains)).apgr > 0.57


def test_drawn_rows_and_the_others_are_all_rows_once():
    fit_on, asked = drawn(50, 12, 3)
    assert len(fit_on) == 12
    assert sorted([*fit_on, *asked]) == list(range(50))
    with pytest.raises(ValueError, match="leave none"):
        drawn(50, 50, 0)


def test_another_files_rows_are_scored_by_one_head():
    known, asked = inputs(400, 6), inputs(50, 7)
    scores = predict(known, known.features[:, 1], asked)
    assert scores.shape == (50,)
    assert scores[:10] == pytest.approx(predict(known, known.features[:, 1], asked.take(np.arange(10))))
