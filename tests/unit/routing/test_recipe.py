"""How shipped heads are chosen and fitted, on tables whose truth is known."""

import numpy as np
import pytest

from gateway.routing.features import Features
from gateway.routing.recipe import FAMILIES, Choice, Labelled, choose, fit

NAMES = list(Features._fields)
CHOICE = Choice("all", 300.0, None, 0.0)


def table(n=300, seed=0, *, task_offset=0.0, vectors=False):
    """Questions are harder the more words; tasks differ in scores by an offset that goes with `maths_words`."""
    dice = np.random.default_rng(seed)
    tasks = np.repeat(["gsm8k", "mmlu", "arc_challenge", "mbpp"], n)
    features = dice.normal(size=(4 * n, len(NAMES)))
    offset = np.repeat([1.5, -1.5, 0.5, -0.5], n)
    features[:, NAMES.index("maths_words")] += offset
    hard = features[:, NAMES.index("words")] + task_offset * offset
    ability = np.array([-0.4, 0.0, 1.5])
    chance = 1 / (1 + np.exp(hard[:, None] - ability))
    scores = (dice.random(chance.shape) < chance).astype(float)
    unit = dice.normal(size=(4 * n, 6))
    return Labelled(features, scores, tasks, unit / np.linalg.norm(unit, axis=1, keepdims=True) if vectors else None)


def test_harder_questions_get_the_greater_gain():
    head = fit(table(), CHOICE)
    assert NAMES[int(head.weights.argmax())] == "words"


def test_what_sets_whole_tasks_apart_is_not_learnt():
    weight = fit(table(task_offset=2.0), CHOICE).weights[NAMES.index("maths_words")]
    assert abs(weight) < 0.3 * fit(table(task_offset=2.0), CHOICE).weights[NAMES.index("words")]


def test_the_mean_score_is_the_gain_of_middling_pairs():
    data = table()
    assert fit(data, CHOICE).score(data.features, None).mean() == pytest.approx(0.28, abs=0.08)


def test_the_choice_is_the_best_on_held_out_families():
    best, tried = choose(table())
    assert best.held_out_apgr == max(choice.held_out_apgr for choice in tried)
    assert best.group != "all"
    assert best.held_out_apgr > 0.55


def test_vectors_that_say_nothing_are_held_back_the_most():
    best, tried = choose(table(vectors=True))
    assert {choice.group for choice in tried} == {best.group}
    assert best.vector_strength == 300_000


def test_only_features_of_the_group_are_used():
    head = fit(table(), CHOICE._replace(group="length"))
    assert "maths_words" not in {NAMES[i] for i in np.flatnonzero(np.abs(head.weights) > 1e-9)}


def test_the_test_questions_of_another_benchmark_are_no_task():
    assert "agentverse-mgsm" not in FAMILIES
