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
    ability = np.array([0.2, 0.6, 2.2])
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


def test_the_mean_score_is_the_gain_of_pairs_that_count():
    data = table()
    assert fit(data, CHOICE).score(data.features, None).mean() == pytest.approx(0.22, abs=0.08)


def test_the_choice_is_the_simplest_within_an_error_of_the_best_on_held_out_families():
    chosen, tried = choose(table())
    best = max(tried, key=lambda choice: choice.held_out_apgr)
    assert chosen.group == "words"
    assert chosen.held_out_apgr >= best.held_out_apgr - best.error
    assert chosen.held_out_apgr > 0.55
    assert 0.001 < chosen.error < 0.05


def test_more_features_are_chosen_where_they_add_more_than_chance():
    data = table()
    dice = np.random.default_rng(5)
    numbers = dice.normal(size=len(data.tasks))
    chance = 1 / (1 + np.exp(3 * numbers[:, None] - np.array([0.2, 0.6, 2.2])))
    features = data.features.copy()
    features[:, NAMES.index("numbers")] = numbers
    chosen, _ = choose(Labelled(features, (dice.random(chance.shape) < chance).astype(float), data.tasks))
    assert chosen.group == "length, numbers"


def test_models_that_agree_with_no_other_are_in_no_pair():
    data, dice = table(), np.random.default_rng(6)
    hard = 2 * data.features[:, NAMES.index("words"), None]
    scores = (dice.random((len(data.tasks), 6)) < 1 / (1 + np.exp(hard - [0.3, 0.5, 0.7, 1.5, 2.0, 2.5]))).astype(float)
    broken = (dice.random((len(data.tasks), 1)) < 0.99).astype(float)
    found = [choose(data._replace(scores=each))[0].held_out_apgr for each in (scores, np.hstack([scores, broken]))]
    assert found[0] == pytest.approx(found[1], abs=0.002)


def test_a_table_without_a_pair_is_refused():
    data = table()
    with pytest.raises(ValueError, match="no task has"):
        choose(data._replace(scores=np.zeros_like(data.scores)))


def test_vectors_that_say_nothing_are_held_back_the_most():
    best, tried = choose(table(vectors=True))
    assert {choice.group for choice in tried} == {best.group}
    assert best.vector_strength == 300_000


def test_only_features_of_the_group_are_used():
    head = fit(table(), CHOICE._replace(group="length"))
    assert "maths_words" not in {NAMES[i] for i in np.flatnonzero(np.abs(head.weights) > 1e-9)}


def test_the_test_questions_of_another_benchmark_are_no_task():
    assert "agentverse-mgsm" not in FAMILIES
