"""Adds up what two policies did with the same requests: money, targets, hits, quality, refusals, by tenant. Pure.

Unknown is never zero: an amount that is not known is counted and in no sum. Cost is compared over requests that both
policies answer at a known price: a refusal is no saving.
"""

from collections import Counter
from collections.abc import Mapping

from gateway.simulate.capacity import PoolUse  # noqa: TC001 - beside its fellows
from gateway.simulate.money import BudgetUse  # noqa: TC001 - beside its fellows
from gateway.simulate.statistics import Estimate, Mean, Pairs, of_part
from gateway.simulate.traffic import Recorded
from gateway.simulate.world import Outcome

NO_SELF_HOSTED = "no_self_hosted_target"
"""`gateway.policy.choosing.no_self_hosted`."""


class Place:
    """Requests of one route to one target."""

    __slots__ = ("cost", "requests", "unknown")

    def __init__(self) -> None:
        self.requests = self.cost = self.unknown = 0


class Side:
    """What one policy did in all."""

    def __init__(self) -> None:
        self.requests = 0
        self.hits = 0
        self.hit_kinds: Counter[str] = Counter()
        self.cost = 0
        self.unknown_cost = 0
        self.untold = 0
        self.chosen = 0
        self.strong = 0
        self.sensitive = {"inside": 0, "outside": 0, "refused": 0}
        self.places: dict[tuple[str, str], Place] = {}
        self.refused: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        """Counts one request."""
        self.requests += 1
        kind, cost = outcome.kind, outcome.cost_micro
        if outcome.kept:
            self.sensitive[outcome.kept] += 1
        if kind == "refused":
            self.refused[outcome.why] += 1
            self.sensitive["refused"] += outcome.why == NO_SELF_HOSTED
            return
        if kind == "hit":
            self.hits += 1
            self.hit_kinds[outcome.why] += 1
            return
        if kind == "unknown":
            self.untold += 1
            return
        place = self.places.get((outcome.route, outcome.target))
        if place is None:
            place = self.places[outcome.route, outcome.target] = Place()
        place.requests += 1
        if cost is None:
            self.unknown_cost += 1
            place.unknown += 1
        else:
            self.cost += cost
            place.cost += cost
        if outcome.side:
            self.chosen += 1
            self.strong += outcome.side == "strong"

    @property
    def told(self) -> int:
        """Requests of which anything is known."""
        return self.requests - self.untold

    @property
    def refusals(self) -> int:
        """How many were refused, for whatever reason."""
        return self.refused.total()


class Tenant:
    """One tenant under both policies."""

    __slots__ = ("newly_refused", "pairs", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.newly_refused = 0
        self.pairs = Pairs()

    @property
    def moved_micro(self) -> int:
        """Micro-USD more than before; what is saved is negative."""
        return self.pairs.new - self.pairs.old


class Quality:
    """How answers change. `sides` maps the names of targets to `weak` or `strong`, for labels that say only that."""

    def __init__(self, sides: Mapping[str, str]) -> None:
        self._sides = sides
        self.compared = 0
        self.changed = 0
        self.newly_cached = 0
        self.no_longer_cached = 0
        self.old = Mean()
        self.new = Mean()
        self.labelled = Mean()
        self.scored = Mean()

    def add(self, recorded: Recorded, old: Outcome, new: Outcome) -> None:
        """Counts one request that got an answer both times; cached answers are counted apart."""
        if old.kind != "served" or new.kind != "served":
            self.newly_cached += new.kind == "hit" and old.kind == "served"
            self.no_longer_cached += new.kind == "served" and old.kind == "hit"
            self.compared += old.kind == "hit" and new.kind == "hit"
            return
        self.compared += 1
        changed = old.target != new.target
        self.changed += changed
        labels = recorded.quality
        if labels is not None:
            before, after = self._label(labels, old.target), self._label(labels, new.target)
            if before is not None and after is not None:
                self.old.add(before)
                self.new.add(after)
                if changed:
                    self.labelled.add(after - before)
        score = next((each for each in (recorded.score, new.score, old.score) if each is not None), None)
        if changed and score is not None:
            sides = (self._sides.get(old.target), self._sides.get(new.target))
            if sides == ("weak", "strong"):
                self.scored.add(score)
            elif sides == ("strong", "weak"):
                self.scored.add(-score)

    @property
    def by(self) -> str:
        """What the change is known from: `same`, `labels`, `scores`, or `unknown`."""
        if not self.changed:
            return "same"
        return "labels" if self.labelled.n else "scores" if self.scored.n else "unknown"

    def change(self) -> Estimate | None:
        """Of the mean quality; `None` where nothing of what changed is labelled or scored."""
        if not self.compared:
            return None
        return of_part(self.labelled if self.labelled.n else self.scored, self.changed, self.compared)

    def _label(self, labels: Mapping[str, float], target: str) -> float | None:
        return labels.get(target, labels.get(self._sides.get(target, "")))


class Tally:
    """Everything that a report is made of."""

    def __init__(self, sides: Mapping[str, str]) -> None:
        self.old = Side()
        self.new = Side()
        self.pairs = Pairs()
        self.quality = Quality(sides)
        self.tenants: dict[str, Tenant] = {}
        self.undecided: Counter[str] = Counter()
        self.undecided_requests = 0
        self.wasted = 0
        self.refused_cost = 0
        self.elsewhere = 0
        """Requests that another policy than the old one served."""
        self.budgets: tuple[BudgetUse, ...] = ()
        self.pools: tuple[PoolUse, ...] = ()
        """Both under the new policy."""
        self._hits = Mean()
        self._refused = Mean()
        self._strong = Mean()
        self._undecided = Mean()

    def add(self, recorded: Recorded, old: Outcome, new: Outcome) -> None:
        """Counts one request under both policies."""
        self.old.add(old)
        self.new.add(new)
        self.wasted += recorded.wasted_micro
        tenant = self.tenants.get(recorded.identity.tenant)
        if tenant is None:
            tenant = self.tenants[recorded.identity.tenant] = Tenant()
        tenant.requests += 1
        refused = (old.kind == "refused", new.kind == "refused")
        if refused == (False, True):
            tenant.newly_refused += 1
            self.refused_cost += old.cost_micro or 0
        if old.cost_micro is not None and new.cost_micro is not None and True not in refused:
            self.pairs.add(old.cost_micro, new.cost_micro)
            tenant.pairs.add(old.cost_micro, new.cost_micro)
        self.quality.add(recorded, old, new)
        if old.kind != "unknown":
            self._hits.add((new.kind == "hit") - (old.kind == "hit"))
            self._refused.add(refused[1] - refused[0])
            self._strong.add((new.side == "strong") - (old.side == "strong"))
        if new.undecided:
            self.undecided_requests += 1
            self.undecided.update(set(new.undecided))
        self._undecided.add(bool(new.undecided))

    def measured(self) -> dict[str, Estimate | None]:
        """By the names of `conditions.METRICS`; `None` is unknown."""
        return {
            "cost": self.pairs.change() if self.pairs.n else None,
            "quality": self.quality.change(),
            "hits": self._hits.estimate(),
            "refused": self._refused.estimate(),
            "strong": self._strong.estimate(),
            "undecided": self._undecided.estimate(),
            "pool": self._fullest_hour(),
        }

    def _fullest_hour(self) -> Estimate | None:
        """Of all pools; 0 where nothing goes to one, `None` where one serves at unknown rates."""
        used = [pool for pool in self.pools if pool.requests]
        shares = [pool.busiest for pool in used if pool.busiest is not None]
        if len(shares) < len(used):
            return None
        most = max(shares, default=0.0)
        return Estimate(most, most, most, sum(pool.requests for pool in used))
