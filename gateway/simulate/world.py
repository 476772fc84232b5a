"""One policy over recorded traffic, request by request, through the code that serves: route, cache, choice, money.

Pure but for what it remembers of the requests before (answers stored, money spent); time and draws are arguments.
Not replayed: failures and retries (the first target answers), rates, slots, the limits of single keys.
"""

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from gateway.core.errors import GatewayError, NotFound
from gateway.core.exchange import Call, Choice, Identity, Plan
from gateway.policy.choosing import Classify, alternatives, pick_of
from gateway.policy.facts import SENSITIVE
from gateway.policy.resolve import kept_inside, resolved
from gateway.policy.table import Policy
from gateway.pricing.worst_case import Refuse
from gateway.routing.caps import StrongCaps
from gateway.routing.decide import Scored, Threshold, choose
from gateway.simulate.caches import Caches, Look
from gateway.simulate.capacity import PoolLoads
from gateway.simulate.known import Finder, RecordedFacts, Unknown
from gateway.simulate.money import DAY_S, DayPrices, Spending, reserved
from gateway.simulate.similar import Similar
from gateway.simulate.traffic import Recorded

ScoreOf = Callable[[Classify, Call, Identity], Scored | None]
"""The score of a body, `None` where this machine cannot make it."""

Kind = Literal["served", "hit", "refused", "unknown"]
NO_KEY: Final = "no_key"
_SESSION: Final = b"x-farthing-session"


class Outcome(NamedTuple):
    """What became of a request. `cost_micro` is `None` where it is not known; `why` says how it was hit or refused.

    `side` is the target's where one of two was chosen, `score` what that went by, `undecided` what the record did not
    say. `kept` says where a sensitive request was served: `inside`, by a self-hosted target or the cache, or `outside`.
    """

    kind: Kind
    route: str = ""
    target: str = ""
    cost_micro: int | None = 0
    why: str = ""
    side: str = ""
    undecided: tuple[str, ...] = ()
    kept: Literal["", "inside", "outside"] = ""
    score: float | None = None


class Before(NamedTuple):
    """What is known of the policy under which the traffic was recorded: names of routes that have not changed since.

    `matches`: those whose conditions are the same; `None` where that policy is not given. `choices`: those that also
    choose between their targets in the same way. `keys`: names of its keys.
    """

    matches: frozenset[str] | None = None
    choices: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()


class World:
    """See the module."""

    def __init__(
        self,
        policy: Policy,
        prices: DayPrices,
        threshold_of: Callable[[Classify], Threshold],
        score_of: ScoreOf,
        before: Before,
        similar: Similar | None = None,
    ) -> None:
        self.policy = policy
        self._prices = prices
        self._threshold_of = threshold_of
        self._score_of = score_of
        self._before = before
        self._finder = Finder(policy, before.matches)
        self._keys = {identity.key: identity for identity in policy.keys.values()}
        self._caches = Caches(similar)
        self.spending = Spending()
        self.loads = PoolLoads()
        self._caps = StrongCaps()

    def replay(self, recorded: Recorded, draw: float, at_s: float) -> Outcome:
        """The outcome; `draw` is uniform in [0, 1), `at_s` Unix seconds and never before that of the last request."""
        identity = self._keys.get(recorded.identity.key, recorded.identity)
        if recorded.identity.key in self._before.keys and recorded.identity.key not in self._keys:
            return Outcome("refused", why=NO_KEY)
        undecided: list[str] = []
        try:
            plan, rule = self._resolve(recorded, identity, draw, at_s, undecided)
            return self._onwards(recorded, identity, plan, rule, at_s, undecided)
        except GatewayError as exc:
            return Outcome("refused", why=exc.code or "refused", undecided=tuple(undecided))

    def _resolve(
        self, recorded: Recorded, identity: Identity, draw: float, at_s: float, undecided: list[str]
    ) -> tuple[Plan, Classify | None]:
        if recorded.call is not None:
            return resolved(self.policy, identity, recorded.call, at_s, draw)
        taken = self._finder.find(recorded, identity, at_s)
        undecided += taken.undecided
        if taken.route is None:
            raise NotFound("")
        headers = dict(recorded.headers or ())
        plan = taken.route.plan(draw, _session(recorded, headers) if taken.route.sticky else None)
        rules = self.policy.sensitive
        if plan.sensitive is None and (rules is not None or recorded.facts.sensitive or SENSITIVE in headers):
            try:
                why = RecordedFacts(recorded, identity, at_s, rules).sensitive
            except Unknown:
                undecided.append("sensitive")
            else:
                plan = plan if why is None else kept_inside(taken.route, plan, why)
        return plan, taken.route.classify

    def _onwards(
        self,
        recorded: Recorded,
        identity: Identity,
        plan: Plan,
        rule: Classify | None,
        at_s: float,
        undecided: list[str],
    ) -> Outcome:
        cache = self.policy.caching.get(plan.route)
        look = self._caches.look(recorded, identity, cache, at_s) if cache is not None else Look(None)
        if look.unknown:
            undecided.append(f"{plan.route}: cache")
        if look.kind is not None:
            hit = Outcome("hit", plan.route, why=look.kind, undecided=tuple(undecided))
            return hit if plan.sensitive is None else hit._replace(kept="inside")
        if look.only:
            return Outcome("refused", plan.route, why="not_cached", undecided=tuple(undecided))
        choice = None
        if rule is not None and recorded.endpoint != "other":
            plan, choice = self._choose(recorded, identity, plan, rule, undecided)
        outcome = self._charged(recorded, identity, plan, at_s, undecided)
        if choice is not None and outcome.kind == "served":
            outcome = outcome._replace(side=choice.target, score=choice.score)
        if cache is not None and look.fill is not None and outcome.kind == "served":
            self._caches.keep(look.fill, cache, at_s)
        return outcome

    def _choose(
        self, recorded: Recorded, identity: Identity, plan: Plan, rule: Classify, undecided: list[str]
    ) -> tuple[Plan, Choice | None]:
        threshold = self._threshold_of(rule)
        pick = pick_of(recorded.model)
        scored: Scored | None = None
        if pick is None and threshold.value is not None and None not in alternatives(rule, plan):
            scored = self._scored(recorded, identity, rule)
            if scored is None:
                if (side := self._as_recorded(recorded, rule)) is not None:
                    return side, Choice("weak" if side is rule.weak else "strong", "recorded")
                undecided.append(f"{rule.route}: score")
        decision = choose(rule, plan, pick, scored, threshold, self._caps, identity.key)
        return decision.plan, decision.choice

    def _scored(self, recorded: Recorded, identity: Identity, rule: Classify) -> Scored | None:
        if recorded.score is not None and recorded.tier in (None, rule.tier):
            return Scored(recorded.score, rule.tier)
        return self._score_of(rule, recorded.call, identity) if recorded.call is not None else None

    def _as_recorded(self, recorded: Recorded, rule: Classify) -> Plan | None:
        """The side that the record took, where the route chooses as it did then."""
        if rule.route != recorded.route or rule.route not in self._before.choices:
            return None
        if recorded.side:
            return rule.strong if recorded.side == "strong" else rule.weak
        return next((side for side in (rule.weak, rule.strong) if side.targets[0].name == recorded.target), None)

    def _charged(
        self, recorded: Recorded, identity: Identity, plan: Plan, at_s: float, undecided: list[str]
    ) -> Outcome:
        target = plan.targets[0]
        usage = recorded.usage
        price = self._prices.price(target, target.model or recorded.model or "", int(at_s // DAY_S))
        cost = price.cost_total(usage) if price is not None and usage is not None else None
        budgets = self.policy.limits(identity, plan.route).budgets
        if budgets:
            amount = reserved(recorded, plan, cost, self._prices.on(at_s), self.policy.money)
            if isinstance(amount, Refuse):
                return Outcome("refused", plan.route, why="price_unknown", undecided=tuple(undecided))
            full = self.spending.refuses(budgets, amount, at_s)
            if full is not None:
                return Outcome("refused", plan.route, why=f"budget {full.id}", undecided=tuple(undecided))
            self.spending.charge(budgets, amount if cost is None else cost, at_s)
        if target.pool is not None:
            self.loads.add(target.pool, usage, at_s)
        served = Outcome("served", plan.route, target.name, cost, undecided=tuple(undecided))
        if plan.sensitive is None:
            return served
        return served._replace(kept="inside" if all(each.self_hosted for each in plan.targets) else "outside")


def as_recorded(recorded: Recorded) -> Outcome:
    """What the record says of itself, where no other policy is given to compare with."""
    if recorded.hit:
        return Outcome("hit", recorded.route, why=recorded.cache)
    if not recorded.target and recorded.cost_micro is None:
        return Outcome("unknown", cost_micro=None)
    return Outcome(
        "served", recorded.route, recorded.target, recorded.cost_micro, side=recorded.side, score=recorded.score
    )


def _session(recorded: Recorded, headers: dict[bytes, bytes]) -> str | None:
    session = headers.get(_SESSION)
    return session.decode("latin-1") if session is not None else recorded.session
