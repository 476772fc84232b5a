"""How the shipped heads are fitted: on difficulty within tasks, with what carries over to tasks that were held out.

A public table of many models' scores says little about one operator's pair of models, and its tasks' means say more of
how answers were extracted than of the questions. What pairs have in common is that harder questions are where a
stronger model gains, so the heads predict **difficulty**: one less the mean score of all models, compared within each
task alone. Which features and how strong a ridge is chosen by leaving whole families of tasks out; the criterion is
the APGR of the held-out tasks, for pairs in which the weak model is middling and the strong one is clearly better.
Pure over arrays.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.routing.features import Features
from gateway.routing.fit import LENGTH, Floats, Ridge, scaling_of, solve
from gateway.routing.metric import Rows, curve

FAMILIES: Final = {
    "agentverse-logicgrid": "logic",
    "gsm8k": "mathematics",
    "math": "mathematics",
    "commongen": "generation",
    "natural_qa": "facts",
    "trivia_qa": "facts",
    "mmlu": "reading",
    "openbook_qa": "choice",
    "arc_challenge": "choice",
    "commonsense_qa": "choice",
    "gpqa": "graduate",
    "mbpp": "code",
    "human_eval": "code",
}
"""Tasks that are held out together. `agentverse-mgsm` is left out of training: its questions are GSM8K's test set."""

REASONING: Final = ("condition_words", "negations", "quantity_words", "ordering_words", "commas", "brackets")
NUMBERS: Final = (
    "numbers", "different_numbers", "digits", "long_numbers", "number_words", "units", "money", "years",
)  # fmt: skip
MATHEMATICS: Final = ("operators", "latex", "variables", "maths_words")
GROUPS: Final[Mapping[str, Sequence[str]]] = {
    "length": LENGTH,
    "length, reasoning": (*LENGTH, *REASONING),
    "length, numbers": (*LENGTH, *NUMBERS),
    "length, reasoning, numbers": (*LENGTH, *REASONING, *NUMBERS),
    "length, reasoning, numbers, mathematics": (*LENGTH, *REASONING, *NUMBERS, *MATHEMATICS),
    "all": Features._fields,
}
STRENGTHS: Final = (300.0, 3_000.0, 30_000.0)
VECTOR_STRENGTHS: Final = (3_000.0, 30_000.0, 300_000.0)
MIDDLING: Final = (0.35, 0.78)
"""The weak model's mean score on a task for a pair to count in the criterion."""
CLEAR: Final = 0.1
"""By how much the strong model's is greater."""


class Labelled(NamedTuple):
    """`features`: `float64[n, p]`; `scores`: `float64[n, models]` in [0, 1]; `tasks`: `str[n]`; vectors or `None`."""

    features: Floats
    scores: Floats
    tasks: NDArray[np.str_]
    vectors: Floats | None = None

    def take(self, index: NDArray[np.bool_]) -> "Labelled":
        """The rows where `index` is true."""
        vectors = None if self.vectors is None else self.vectors[index]
        return Labelled(self.features[index], self.scores[index], self.tasks[index], vectors)


class Choice(NamedTuple):
    """What is fitted, and the mean APGR that it had on held-out tasks."""

    group: str
    strength: float
    vector_strength: float | None
    held_out_apgr: float


def fit(data: Labelled, choice: Choice) -> Ridge:
    """The head of these rows: a gain of about `bias` on average, more where questions are harder."""
    scaling = scaling_of(data.features, GROUPS[choice.group])
    design = scaling.of(data.features)
    size, centre, vectors = 1.0, np.empty(0), None
    if data.vectors is not None and choice.vector_strength is not None:
        centre = data.vectors.mean(axis=0)
        # One strength for both parts: the vectors are scaled down by what theirs is greater.
        size = float(np.sqrt(data.vectors.shape[1] * choice.strength / choice.vector_strength))
        vectors = (data.vectors - centre) * size
    whole = design if vectors is None else np.hstack([design, vectors])
    weights, strength = solve(
        _within(whole, data.tasks), _within(1 - data.scores.mean(axis=1), data.tasks), choice.strength
    )
    own = weights[: design.shape[1]]
    bias = _mean_gain(data) - float(design.mean(axis=0) @ own)
    return Ridge(scaling, own, bias, centre, weights[design.shape[1] :] * size, strength)


def choose(data: Labelled) -> tuple[Choice, list[Choice]]:
    """The best choice by held-out families, and all that were tried; with vectors, only their strength is chosen."""
    tried = [
        Choice(group, strength, None, _held_out(data._replace(vectors=None), Choice(group, strength, None, 0.0)))
        for group in GROUPS
        for strength in STRENGTHS
    ]
    best = max(tried, key=lambda choice: choice.held_out_apgr)
    if data.vectors is None:
        return best, tried
    with_vectors = [best._replace(vector_strength=strength) for strength in VECTOR_STRENGTHS]
    tried = [choice._replace(held_out_apgr=_held_out(data, choice)) for choice in with_vectors]
    return max(tried, key=lambda choice: choice.held_out_apgr), tried


def _held_out(data: Labelled, choice: Choice) -> float:
    family = np.array([FAMILIES[task] for task in data.tasks])
    found = []
    for name in np.unique(family):
        head = fit(data.take(family != name), choice)
        held = data.take(family == name)
        scores = head.score(held.features, held.vectors)
        for task in np.unique(held.tasks):
            index = held.tasks == task
            if (gain := _pair_gain(held.scores[index])) is not None:
                found.append(curve(scores[index], Rows(np.zeros(len(gain)), gain)).apgr)
    return float(np.mean(found))


def _pair_gain(scores: Floats) -> Floats | None:
    """The mean gain over the task's pairs of a middling and a clearly better model, `None` where there is no pair."""
    means = scores.mean(axis=0)
    low, high = MIDDLING
    gains = [
        scores[:, strong] - scores[:, weak]
        for weak, strong in permutations(range(scores.shape[1]), 2)
        if low <= means[weak] <= high and means[strong] - means[weak] >= CLEAR
    ]
    return np.asarray(np.mean(gains, axis=0)) if gains else None


def _mean_gain(data: Labelled) -> float:
    gains = [_pair_gain(data.scores[data.tasks == task]) for task in np.unique(data.tasks)]
    return float(np.mean([gain.mean() for gain in gains if gain is not None]))


def _within(values: Floats, tasks: Iterable[str]) -> Floats:
    """Each row less the mean of its task."""
    _, index = np.unique(np.array(list(tasks)), return_inverse=True)
    flat = values if values.ndim == 2 else values[:, None]
    sums = np.zeros((index.max() + 1, flat.shape[1]))
    np.add.at(sums, index, flat)
    centred = flat - (sums / np.bincount(index)[:, None])[index]
    return np.asarray(centred if values.ndim == 2 else centred[:, 0])
