"""Runs recorded traffic through two policies at once, with the same draws, and compares. Pure: the seed is given."""

import random
from collections.abc import Iterable

from gateway.policy.document import Document
from gateway.policy.table import Policy
from gateway.simulate.tally import Tally
from gateway.simulate.traffic import Recorded
from gateway.simulate.world import Before, Outcome, World, as_recorded


def replay(traffic: Iterable[Recorded], new: World, old: World | None, *, seed: int, now_s: float) -> Tally:
    """The sums. Without `old` the record itself is compared with; a request without a time came at `now_s`."""
    draw = random.Random(seed).random  # noqa: S311 - which arm a request takes, not a secret
    worlds = [new] if old is None else [old, new]
    tally = Tally(sides_of([world.policy for world in worlds]))
    first_s = last_s = None
    for recorded in traffic:
        drawn = draw()
        at_s = now_s if recorded.started_s is None else recorded.started_s
        first_s, last_s = at_s if first_s is None else first_s, at_s
        tally.elsewhere += bool(recorded.policy) and old is not None and recorded.policy != old.policy.hash
        before: Outcome = as_recorded(recorded) if old is None else old.replay(recorded, drawn, at_s)
        tally.add(recorded, before, new.replay(recorded, drawn, at_s))
    tally.budgets = new.spending.use()
    tally.pools = new.loads.use(new.policy.pools, first_s, last_s)
    return tally


def sides_of(policies: Iterable[Policy]) -> dict[str, str]:
    """Which targets are a weak or a strong side everywhere they are one; what is both is neither."""
    found: dict[str, set[str]] = {}
    for policy in policies:
        for route in policy.routes:
            if route.classify is not None:
                found.setdefault(route.classify.weak.targets[0].name, set()).add("weak")
                found.setdefault(route.classify.strong.targets[0].name, set()).add("strong")
    return {name: next(iter(sides)) for name, sides in found.items() if len(sides) == 1}


def unchanged(old: Document, new: Document) -> Before:
    """What of `old`, under which the traffic was recorded, still holds in `new`."""
    before = {entry.spec.name: entry.spec for entry in old.routes}
    matches, choices = set(), set()
    for entry in new.routes:
        was = before.get(entry.spec.name)
        if was is not None and was.match == entry.spec.match:
            matches.add(entry.spec.name)
            if was.classify == entry.spec.classify:
                choices.add(entry.spec.name)
    return Before(frozenset(matches), frozenset(choices), frozenset(old.keys))
