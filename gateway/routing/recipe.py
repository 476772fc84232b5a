"""How the shipped heads are fitted: on difficulty within tasks, with what carries over to tasks that were held out.

A public table of many models' scores says little about one operator's pair of models, and its tasks' means say more of
how answers were extracted than of the questions. What pairs have in common is that harder questions are where a
stronger model gains, so the heads predict **difficulty**: one less the mean score of all models, compared within each
task alone. Which features and how strong a ridge is chosen by leaving whole families of tasks out; the criterion is
the APGR of the held-out tasks, for pairs that somebody might route between. Of the choices that chance could have put
in another order, the one with the fewest features is taken. Pure over arrays; the draws that judge chance are seeded.
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
    "words": ("words",),
    "characters": ("characters",),
    "length": LENGTH,
    "length, reasoning": (*LENGTH, *REASONING),
    "length, numbers": (*LENGTH, *NUMBERS),
    "length, reasoning, numbers": (*LENGTH, *REASONING, *NUMBERS),
    "length, reasoning, numbers, mathematics": (*LENGTH, *REASONING, *NUMBERS, *MATHEMATICS),
    "all": Features._fields,
}
STRENGTHS: Final = (300.0, 3_000.0, 30_000.0)
VECTOR_STRENGTHS: Final = (3_000.0, 30_000.0, 300_000.0)
RIGHT: Final = 0.5
"""The weak model's least mean score on a task for a pair to count: nobody routes to one that is mostly wrong."""
CLEAR: Final = 0.05
"""By how much the strong model's is greater, at least."""
AGREEING: Final = 0.2
"""The least correlation of a model's scores with the mean of the others: below it they tell of a format, not of
questions."""
_RESAMPLES = 200
_SEED = 0


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
    """What is fitted, the mean APGR that it had on held-out families, and the standard error of that."""

    group: str
    strength: float
    vector_strength: float | None
    held_out_apgr: float = 0.0
    error: float = 0.0


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
    """The simplest choice that is within one error of the best on held-out families, and all that were tried.

    With vectors, only their strength is chosen; simpler is what holds them back more. ValueError: no task has a pair.
    """
    if all(_pair_gain(data.scores[data.tasks == task]) is None for task in np.unique(data.tasks)):
        raise ValueError("no task has a weak model that is mostly right and a clearly better one")
    plain = data._replace(vectors=None)
    tried = [_tried(plain, Choice(group, strength, None)) for group in GROUPS for strength in STRENGTHS]
    best = _simplest(tried)
    if data.vectors is None:
        return best, tried
    tried = [_tried(data, best._replace(vector_strength=strength)) for strength in VECTOR_STRENGTHS]
    return _simplest(tried), tried


def _simplest(tried: Sequence[Choice]) -> Choice:
    best = max(tried, key=lambda choice: choice.held_out_apgr)
    near = [choice for choice in tried if choice.held_out_apgr >= best.held_out_apgr - best.error]
    return min(
        near, key=lambda choice: (len(GROUPS[choice.group]), -(choice.vector_strength or 0.0), -choice.held_out_apgr)
    )


Held = Mapping[str, Sequence[tuple[Floats, Floats]]]
"""By family, of each of its tasks the scores and the gains of the rows."""


def _tried(data: Labelled, choice: Choice) -> Choice:
    """The choice with its held-out APGR: the mean over families, a family's over its tasks, a task's over its pairs."""
    family = np.array([FAMILIES[task] for task in data.tasks])
    held: dict[str, list[tuple[Floats, Floats]]] = {}
    for name in np.unique(family):
        head = fit(data.take(family != name), choice)
        rest = data.take(family == name)
        scores = head.score(rest.features, rest.vectors)
        for task in np.unique(rest.tasks):
            index = rest.tasks == task
            if (gain := _pair_gain(rest.scores[index])) is not None:
                held.setdefault(str(name), []).append((scores[index], gain))
    dice = np.random.default_rng(_SEED)
    drawn = [_mean_apgr(held, dice) for _ in range(_RESAMPLES)]
    return choice._replace(held_out_apgr=_mean_apgr(held), error=float(np.std(drawn)))


def _mean_apgr(held: Held, dice: np.random.Generator | None = None) -> float:
    """Over families; with dice, of rows drawn with replacement from each task."""
    return float(np.mean([np.mean([_apgr(*task, dice) for task in tasks]) for tasks in held.values()]))


def _apgr(scores: Floats, gain: Floats, dice: np.random.Generator | None) -> float:
    if dice is None:
        return curve(scores, Rows(np.zeros(len(gain)), gain)).apgr
    while True:
        index = dice.integers(0, len(gain), len(gain))
        if (drawn := gain[index]).mean() > 0:
            return curve(scores[index], Rows(np.zeros(len(drawn)), drawn)).apgr


def _pairs(scores: Floats) -> list[Floats]:
    """The gains of a task's pairs that count (see `RIGHT`, `CLEAR`, `AGREEING`), each `float64[n]`."""
    means = scores.mean(axis=0)
    others = (scores.sum(axis=1, keepdims=True) - scores) / (scores.shape[1] - 1)
    agrees = [_correlation(own, rest) >= AGREEING for own, rest in zip(scores.T, others.T, strict=True)]
    return [
        scores[:, strong] - scores[:, weak]
        for weak, strong in permutations(range(scores.shape[1]), 2)
        if agrees[weak] and agrees[strong] and means[weak] >= RIGHT and means[strong] - means[weak] >= CLEAR
    ]


def _correlation(one: Floats, other: Floats) -> float:
    one, other = one - one.mean(), other - other.mean()
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / norms if norms > 0 else 0.0


def _pair_gain(scores: Floats) -> Floats | None:
    """The mean over the task's pairs, each scaled to a mean gain of 1: its APGR is the pairs' mean. `None`: no pair."""
    pairs = _pairs(scores)
    return np.asarray(np.mean([gain / gain.mean() for gain in pairs], axis=0)) if pairs else None


def _mean_gain(data: Labelled) -> float:
    """Over the tasks that have pairs; 0 where none has."""
    found = [pairs for task in np.unique(data.tasks) if (pairs := _pairs(data.scores[data.tasks == task]))]
    return float(np.mean([np.mean(pairs) for pairs in found])) if found else 0.0


def _within(values: Floats, tasks: Iterable[str]) -> Floats:
    """Each row less the mean of its task."""
    _, index = np.unique(np.array(list(tasks)), return_inverse=True)
    flat = values if values.ndim == 2 else values[:, None]
    sums = np.zeros((index.max() + 1, flat.shape[1]))
    np.add.at(sums, index, flat)
    centred = flat - (sums / np.bincount(index)[:, None])[index]
    return np.asarray(centred if values.ndim == 2 else centred[:, 0])
