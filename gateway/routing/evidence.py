"""Reads what a threshold is calibrated on: a file, scored here; or the gateway's own traffic, as it was scored then.

Labels count if they are of the parts now installed and were sampled: what people said (`feedback`) is no sample. Raises
`BadRequest` that names file or table and the fix.
"""

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np

from gateway.core.errors import BadRequest
from gateway.core.exchange import Target, Usage
from gateway.core.money import micro_usd
from gateway.database import Database, DatabaseError
from gateway.encoder import open_model
from gateway.guarantee.certify import Sample, data_hash
from gateway.policy.choosing import Classify
from gateway.pricing.book import ModelPrice
from gateway.routing.costs import Costs
from gateway.routing.decide import MEANING
from gateway.routing.labels import RoutingLabel, RoutingLabelStore
from gateway.routing.metric import Floats, Rows
from gateway.routing.reading import Request
from gateway.routing.scorer import Scorer, open_scorer
from gateway.routing.table import number, read_lines, read_table
from gateway.routing.view import view

MOST_SCORES: Final = 100_000
"""The newest scores of the ledger that are read: enough for any share."""
_TOLD: Final = 500
_LEDGER_FROM = "SELECT MIN(started_s) FROM requests WHERE route = ? AND route_tier = ? AND started_s >= ?"
_LEDGER = (
    "SELECT route_score FROM requests WHERE route = ? AND route_score IS NOT NULL AND started_s >= ?"
    " ORDER BY started_s DESC LIMIT ?"
)


class Evidence(NamedTuple):
    """Requests of a route. `scores` are `float64[n]`, and so is what else is known of each, `None` where it is not.

    `weights` are 1 / the probability with which each was sampled; `None`, all alike. A cost is NaN where it is not
    known. `versions` are of the parts that scored, without the models. `traffic` are scores of the ledger, of far more
    requests than have labels; `None` where it has none. `hours` is how long the requests took to come.
    """

    scores: Floats
    versions: dict[str, str]
    told: str
    rows: Rows | None = None
    costs: Costs | None = None
    weights: Floats | None = None
    data_hash: str = ""
    traffic: list[float] | None = None
    hours: float | None = None

    def priced(self) -> "Evidence":
        """Those whose costs are known at both targets. Raises `BadRequest` where there are none."""
        costs = self.costs
        known = np.isfinite(costs.weak + costs.strong) if costs is not None else np.zeros(0, bool)
        if costs is None or not known.any():
            raise BadRequest(
                "what requests cost is not known; fix: columns weak_cost and strong_cost in dollars, or input_tokens, "
                "weak_tokens and strong_tokens with priced targets; or calibrate from labels, which know it"
            )
        return self._replace(
            scores=self.scores[known],
            rows=None if self.rows is None else self.rows.take(np.flatnonzero(known)),
            costs=Costs(costs.weak[known], costs.strong[known]),
            weights=None if self.weights is None else self.weights[known],
        )


class Columns(msgspec.Struct, frozen=True):
    """What a file calls its columns. `costs` are the weak and the strong one, `tokens` input, weak, strong output."""

    prompt: str = "prompt"
    weak: str = "weak"
    strong: str = "strong"
    costs: tuple[str, str] = ("weak_cost", "strong_cost")
    tokens: tuple[str, str, str] = ("input_tokens", "weak_tokens", "strong_tokens")


PriceOf = Callable[[Target], ModelPrice | None]


def parts(rule: Classify, encoder: str) -> dict[str, str]:
    """The versions that a gateway of this installation would score the route with."""
    scorer = open_scorer(embed=rule.tier in MEANING)
    return scorer.versions(rule.tier, open_model(encoder).version if rule.tier in MEANING else None)


def of_file(
    path: Path, columns: Columns, rule: Classify, encoder: str, price_of: PriceOf, *, labelled: bool
) -> Evidence:
    """The prompts of a file, scored as requests of one turn; their qualities where they are `labelled`."""
    if rule.tier not in ("light", "embed"):
        raise BadRequest(
            f"the tier {rule.tier!r} cannot score a file: it needs live traffic; fix: `compare: 2%` on the route, and "
            "`farthing calibrate routing --from-labels` once there are labels"
        )
    rows, digest = None, ""
    if labelled:
        table = read_table(path, columns.prompt, columns.weak, columns.strong)
        lines, rows, digest = table.lines, table.rows, table.sha256
    else:
        lines = read_lines(path)
        if lines and columns.prompt not in lines[0]:
            raise BadRequest(f"{path}: no column {columns.prompt!r}; fix: one of {', '.join(lines[0])}")
    scores, versions = _scored([line[columns.prompt] for line in lines], rule, encoder)
    costs = _costs(path, lines, columns, rule, price_of)
    return Evidence(scores, versions, f"{len(lines)} prompts of {path.name}", rows, costs, data_hash=digest)


def of_traffic(database: Database, rule: Classify, versions: Mapping[str, str], since_s: float) -> Evidence:
    """The route's labels of these parts since then, and the ledger's scores of that time. Raises `DatabaseError`."""
    in_force = {**versions, **rule.versions}
    store = RoutingLabelStore(database)
    store.migrate()
    labels = store.of(rule.route, since_s, math.inf)
    used = [each for each in labels if each.versions == in_force and each.source != "feedback"]
    told = f"{len(used)} labels" + _left_out(labels, in_force)
    traffic = _ledger(database, rule, _settled_s(labels, in_force, since_s))
    if traffic:
        told += f"; {len(traffic)} scores of the ledger"
    if not used:
        return Evidence(np.empty(0), dict(versions), told, traffic=traffic or None)
    weights = np.array([each.weight for each in used])
    sample = Sample(np.array([each.score for each in used]), np.array([each.gain for each in used]), weights)
    return Evidence(
        sample.scores,
        dict(versions),
        told,
        Rows(np.array([each.weak_quality for each in used]), np.array([each.strong_quality for each in used])),
        Costs(_money(each.weak_cost_micro for each in used), _money(each.strong_cost_micro for each in used)),
        weights if (weights != weights[0]).any() else None,
        data_hash(sample),
        traffic or None,
        (used[-1].at_s - used[0].at_s) / 3600,
    )


def _left_out(labels: Sequence[RoutingLabel], in_force: Mapping[str, str]) -> str:
    """Why labels do not count, and how many each time."""
    reasons = Counter(_other(each, in_force) for each in labels)
    reasons.pop("", None)
    return "".join(f", {count} left out ({reason})" for reason, count in reasons.most_common(3))


def _other(label: RoutingLabel, in_force: Mapping[str, str]) -> str:
    if label.source == "feedback":
        return "feedback is no sample"
    parts = sorted(
        part for part in label.versions.keys() | in_force.keys() if label.versions.get(part) != in_force.get(part)
    )
    return f"another {', '.join(parts)}" if parts else ""


def _settled_s(labels: Sequence[RoutingLabel], in_force: Mapping[str, str], since_s: float) -> float:
    """From when on the ledger's scores, which name only the head, are all of these: after the last label of others."""
    others = [each.at_s for each in labels if each.versions != in_force and each.source != "feedback"]
    return max([since_s, *others])


def _ledger(database: Database, rule: Classify, since_s: float) -> list[float]:
    """The newest scores, since the route's tier first gave one; with those of texts that it leaves to another tier."""
    with suppress(DatabaseError):  # a ledger of an older gateway has no such columns; scores only help
        ((first_s,),) = database.query(_LEDGER_FROM, (rule.route, rule.tier, since_s))
        if first_s is not None:
            return [float(score) for (score,) in database.query(_LEDGER, (rule.route, first_s, MOST_SCORES))]
    return []


def _scored(prompts: Sequence[str], rule: Classify, encoder: str) -> tuple[Floats, dict[str, str]]:
    """What a gateway would have scored each prompt with, `float64[n]`, and the versions of what did."""
    scorer = open_scorer(embed=rule.tier == "embed")
    if rule.tier == "light":
        found = [scorer.score(Request(prompt, turns=1), None).score for prompt in prompts]
        return np.array(found, np.float64), scorer.versions("light", None)
    return _by_meaning(prompts, scorer, encoder)


def _by_meaning(prompts: Sequence[str], scorer: Scorer, encoder: str) -> tuple[Floats, dict[str, str]]:
    model = open_model(encoder)
    found = []
    for at, prompt in enumerate(prompts, 1):
        reading = model.read(view(prompt))
        vector = model.run([reading])[0] if reading is not None else None
        found.append(scorer.score(Request(prompt, turns=1), None, vector).score)
        if at % _TOLD == 0 or at == len(prompts):
            sys.stderr.write(f"\rscored {at} of {len(prompts)}" + "\n" * (at == len(prompts)))
    return np.array(found, np.float64), scorer.versions("embed", model.version)


def _costs(
    path: Path, lines: Sequence[Mapping[str, str]], columns: Columns, rule: Classify, price_of: PriceOf
) -> Costs | None:
    """By what the file says it cost, else by its tokens and the targets' prices; `None` without either."""
    there = lines[0].keys() if lines else ()
    if set(columns.costs) <= set(there):
        weak, strong = (
            np.array([float(micro_usd(number(path, at, line[name]))) for at, line in enumerate(lines, 2)])
            for name in columns.costs
        )
        return Costs(weak, strong)
    if not set(columns.tokens) <= set(there):
        return None
    prices = [price_of(plan.targets[0]) for plan in (rule.weak, rule.strong)]
    found = []
    for price, name in zip(prices, columns.tokens[1:], strict=True):
        if price is None:
            return None
        usages = [
            Usage(
                uncached_input=int(number(path, at, line[columns.tokens[0]])), output=int(number(path, at, line[name]))
            )
            for at, line in enumerate(lines, 2)
        ]
        found.append(np.array([float(price.cost_total(usage)) for usage in usages]))
    return Costs(*found)


def _money(amounts: Iterable[int | None]) -> Floats:
    return np.array([float("nan") if amount is None else float(amount) for amount in amounts])
