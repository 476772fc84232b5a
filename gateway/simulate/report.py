"""What a simulation found, for people, for a pull request and for machines; decides nothing but how it reads. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from gateway.core.money import usd
from gateway.ledger.table import count, dollars, layout, places_for
from gateway.simulate.conditions import Verdict
from gateway.simulate.money import BudgetUse
from gateway.simulate.statistics import Estimate
from gateway.simulate.tally import Side, Tally

MOST_ROWS = 20
"""Tenants and places that are shown; the JSON has all."""


class Told(msgspec.Struct, frozen=True):
    """What is compared, and over what. `old` is `None` for the record itself; times are Unix seconds."""

    new: str
    old: str | None
    traffic: str
    since_s: float | None
    until_s: float | None
    notes: tuple[str, ...] = ()


class Table(NamedTuple):
    """A table with a title; the first `text` columns are text."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: int


def as_text(told: Told, tally: Tally, verdicts: Sequence[Verdict]) -> str:
    """For a terminal."""
    parts = [_headline(told, tally)]
    for table in _tables(told, tally):
        title = f"{table.title}\n" if table.title else ""
        parts.append(title + layout(table.head, table.rows, text=table.text))
    parts += _lists(told, tally, verdicts, "  ")
    return "\n".join(parts)


def as_markdown(told: Told, tally: Tally, verdicts: Sequence[Verdict]) -> str:
    """For a comment on a pull request or the summary of a job."""
    failed = any(verdict.failed for verdict in verdicts)
    parts = [f"## Policy simulation{': failed' if failed else ''}\n", _headline(told, tally)]
    for table in _tables(told, tally):
        if table.title:
            parts.append(f"### {table.title}\n")
        aligned = ["---" if index < table.text else "---:" for index in range(len(table.head))]
        rows = [table.head, aligned, *table.rows]
        parts.append("".join(f"| {' | '.join(_cell(cell) for cell in row)} |\n" for row in rows))
    parts += _lists(told, tally, verdicts, "- ")
    return "\n".join(parts)


def as_json(told: Told, tally: Tally, verdicts: Sequence[Verdict]) -> bytes:
    """One object on one line; dollars as decimal text, shares and changes as fractions, unknown as null."""
    quality = tally.quality
    found: dict[str, Any] = {
        "object": "policy.simulation",
        "new": told.new,
        "old": told.old,
        "traffic": told.traffic,
        "since": told.since_s,
        "until": told.until_s,
        "requests": tally.new.requests,
        "change": {name: _estimate(measured) for name, measured in tally.measured().items()},
        "cost_compared": {
            "requests": tally.pairs.n,
            "old_usd": usd(tally.pairs.old),
            "new_usd": usd(tally.pairs.new),
        },
        "before": _side(tally.old),
        "after": _side(tally.new),
        "quality": {
            "by": quality.by,
            "compared": quality.compared,
            "changed": quality.changed,
            "newly_cached": quality.newly_cached,
            "no_longer_cached": quality.no_longer_cached,
            "labelled": quality.old.n,
            "old": _estimate(quality.old.estimate()),
            "new": _estimate(quality.new.estimate()),
        },
        "budgets": [_budget(use) for use in tally.budgets],
        "pools": [msgspec.structs.asdict(use) for use in tally.pools],
        "tenants": {
            name: {
                "requests": tenant.requests,
                "compared": tenant.pairs.n,
                "old_usd": usd(tenant.pairs.old),
                "new_usd": usd(tenant.pairs.new),
                "change": _estimate(tenant.pairs.change()) if tenant.pairs.n else None,
                "newly_refused": tenant.newly_refused,
            }
            for name, tenant in sorted(tally.tenants.items())
        },
        "undecided": {"requests": tally.undecided_requests, "reasons": dict(tally.undecided.most_common())},
        "refused_usd": usd(tally.refused_cost),
        "retries_usd": usd(tally.wasted),
        "fail_on": [msgspec.structs.asdict(verdict) for verdict in verdicts],
        "failed": any(verdict.failed for verdict in verdicts),
        "notes": told.notes,
    }
    return msgspec.json.encode(found) + b"\n"


def _headline(told: Told, tally: Tally) -> str:
    against = told.old or "the record"
    period = ""
    if told.since_s is not None and told.until_s is not None:
        period = f", {_moment(told.since_s)} to {_moment(told.until_s)}"
    return f"{told.new} against {against}: {count(tally.new.requests)} requests of {told.traffic}{period}\n"


def _tables(told: Told, tally: Tally) -> list[Table]:
    tables = (_totals(tally), _places(told, tally), _pools(tally), _budgets(tally), _tenants(tally))
    return [table for table in tables if table.rows]


def _totals(tally: Tally) -> Table:
    old, new, pairs = tally.old, tally.new, tally.pairs
    found = tally.measured()
    places = places_for(max(pairs.old, pairs.new))
    known = old.told > 0
    rows = [
        [
            f"cost of {count(pairs.n)} requests",
            dollars(pairs.old, places) if pairs.n else "unknown",
            dollars(pairs.new, places) if pairs.n else dollars(new.cost, places_for(new.cost)),
            _percent(found["cost"]),
        ],
        ["hit rate", _share(old.hits, old.told), _share(new.hits, new.requests), _points(found["hits"])],
        ["refused", count(old.refusals), count(new.refusals), _points(found["refused"])],
        _quality_row(tally, found["quality"]),
    ]
    if old.chosen or new.chosen:
        strong = ["strong", _share(old.strong, old.told), _share(new.strong, new.requests), _points(found["strong"])]
        rows.insert(2, strong)
    if not known:
        rows = [[row[0], "unknown", row[2], row[3]] for row in rows]
    return Table("", ("", "before", "after", "change [95 % interval]"), rows, 1)


def _quality_row(tally: Tally, change: Estimate | None) -> list[str]:
    quality = tally.quality
    named = {
        "labels": f"quality, by {count(quality.labelled.n)} labels",
        "scores": f"quality, by {count(quality.scored.n)} scores, not certified",
        "same": "quality",
        "unknown": "quality",
    }[quality.by]
    means = [f"{mean:.4f}" if (mean := side.mean) is not None else "unknown" for side in (quality.old, quality.new)]
    return [named, *means, _points(change)]


def _places(told: Told, tally: Tally) -> Table:
    new, old = tally.new, tally.old
    names = {*new.places, *(old.places if told.old is not None else ())}
    both = sorted(names, key=lambda name: (-new.places[name].requests if name in new.places else 0, name))
    most = places_for(max((place.cost for place in new.places.values()), default=0))
    rows = []
    for name in both[:MOST_ROWS]:
        before, after = old.places.get(name), new.places.get(name)
        rows.append(
            [
                *name,
                _share(before.requests if before else 0, old.told) if old.told else "unknown",
                _share(after.requests if after else 0, new.requests),
                dollars(after.cost if after else 0, most),
                count(after.unknown) if after and after.unknown else "",
            ]
        )
    return Table("Where requests go", ("route", "target", "before", "after", "cost after", "cost unknown"), rows, 2)


def _pools(tally: Tally) -> Table:
    rows = [
        [
            use.pool,
            count(use.requests),
            count(use.replicas),
            "unknown" if use.mean is None else _fine(use.mean),
            "unknown" if use.busiest is None else _fine(use.busiest),
            "" if use.busiest_s is None else _moment(use.busiest_s),
        ]
        for use in tally.pools
    ]
    head = ("pool", "requests", "replicas", "mean use", "busiest hour", "which began")
    return Table("Pools, as a share of their stated rates", head, rows, 1)


def _budgets(tally: Tally) -> Table:
    rows = [
        [
            use.budget.id,
            dollars(use.budget.limit_micro_usd, 2),
            dollars(use.fullest, places_for(use.fullest)),
            _share(use.fullest, use.budget.limit_micro_usd),
            ", ".join(f"{share:.0%} in {count(times)}" for share, times in use.passed if times) or "none",
            count(use.windows),
            count(use.refused),
        ]
        for use in tally.budgets[:MOST_ROWS]
    ]
    left = f", {len(tally.budgets) - len(rows)} left out" if len(tally.budgets) > len(rows) else ""
    head = ("budget", "limit", "fullest", "used", "soft limits passed", "periods", "refused")
    return Table(f"Budgets, the fullest first{left}", head, rows, 1)


def _tenants(tally: Tally) -> Table:
    tenants = sorted(tally.tenants.items(), key=lambda item: (item[1].newly_refused, item[1].moved_micro, item[0]))
    shown = tenants if len(tenants) <= MOST_ROWS else [*tenants[: MOST_ROWS // 2], *tenants[-MOST_ROWS // 2 :]]
    most = places_for(max((max(tenant.pairs.old, tenant.pairs.new) for _, tenant in tenants), default=0))
    rows = [
        [
            name,
            count(tenant.requests),
            dollars(tenant.pairs.old, most) if tenant.pairs.n else "unknown",
            dollars(tenant.pairs.new, most) if tenant.pairs.n else "unknown",
            _percent(tenant.pairs.change() if tenant.pairs.n else None),
            count(tenant.newly_refused),
        ]
        for name, tenant in shown
    ]
    left = f", {len(tenants) - len(shown)} in between left out" if len(tenants) > len(shown) else ""
    title = f"Tenants, who gains most first{left}"
    return Table(title, ("tenant", "requests", "before", "after", "change [95 % interval]", "newly refused"), rows, 1)


def _lists(told: Told, tally: Tally, verdicts: Sequence[Verdict], mark: str) -> list[str]:
    new = tally.new
    parts = []
    if new.refused:
        lines = [f"{name}: {count(number)}" for name, number in new.refused.most_common(MOST_ROWS)]
        if tally.refused_cost:
            lines.append(f"what is newly refused cost {dollars(tally.refused_cost)} before, and nothing after")
        parts.append(_listed("Refused:", lines, mark))
    if new.hits:
        parts.append(_listed("Hits:", [f"{name}: {count(hits)}" for name, hits in new.hit_kinds.most_common()], mark))
    if any(new.sensitive.values()):
        inside, outside, refused = (count(new.sensitive[name]) for name in ("inside", "outside", "refused"))
        line = f"{inside} stay inside, {outside} leave, {refused} are refused"
        parts.append(_listed("Sensitive requests:", [line], mark))
    if tally.undecided:
        share = _share(tally.undecided_requests, new.requests)
        head = f"The record does not decide everything about {count(tally.undecided_requests)} requests ({share}):"
        lines = [f"{name}: {count(number)}" for name, number in tally.undecided.most_common(MOST_ROWS)]
        parts.append(_listed(head, lines, mark))
    notes = [*told.notes, *_limits_of(told, tally)]
    if notes:
        parts.append(_listed("To know:", notes, mark))
    if verdicts:
        parts.append(_listed("Conditions:", [_verdict(verdict) for verdict in verdicts], mark))
    return parts


def _limits_of(told: Told, tally: Tally) -> list[str]:
    new, quality = tally.new, tally.quality
    notes = []
    apart = new.requests - tally.pairs.n
    if apart:
        notes.append(f"{count(apart)} requests are in no change of cost: refused, or of a cost that is not known")
    if quality.changed and quality.by == "unknown":
        notes.append(
            f"{count(quality.changed)} answers come from another target, and nothing says how good they are: "
            "quality is unknown; labels (`quality`) or scores in the traffic would say"
        )
    elif quality.changed:
        known = quality.labelled.n if quality.by == "labels" else quality.scored.n
        notes.append(f"{count(quality.changed)} answers come from another target, {count(known)} of them are known")
    if quality.newly_cached:
        notes.append(
            f"{count(quality.newly_cached)} answers come newly from the cache: its certificate bounds their error"
        )
    if quality.no_longer_cached:
        notes.append(f"{count(quality.no_longer_cached)} answers come no longer from the cache, and are not in quality")
    if tally.elsewhere:
        notes.append(f"{count(tally.elsewhere)} requests were served by another policy than {told.old}")
    if tally.wasted:
        notes.append(f"{dollars(tally.wasted)} of failed attempts are not replayed, and in neither cost")
    return notes


def _listed(head: str, lines: Sequence[str], mark: str) -> str:
    gap = "\n" if mark.startswith("-") else ""
    return f"{head}\n{gap}" + "".join(f"{mark}{line}\n" for line in lines)


def _verdict(verdict: Verdict) -> str:
    if verdict.status == "unknown":
        return f"{verdict.condition}: fails, it is not known"
    points = "" if verdict.condition.startswith(("cost", "pool", "undecided")) else " points"
    value = f"{(verdict.value or 0) * 100:+.2f} %{points}"
    unsure = "; the interval reaches the limit" if verdict.unsure else ""
    return f"{verdict.condition}: {'fails' if verdict.failed else 'holds'} at {value}{unsure}"


def _side(side: Side) -> dict[str, Any]:
    return {
        "requests": side.told,
        "cost_usd": usd(side.cost),
        "unknown_cost": side.unknown_cost,
        "hits": side.hits,
        "hit_kinds": dict(side.hit_kinds.most_common()),
        "chosen": side.chosen,
        "strong": side.strong,
        "refused": dict(side.refused.most_common()),
        "sensitive": dict(side.sensitive),
        "places": [
            {"route": route, "target": target, "requests": place.requests, "cost_usd": usd(place.cost),
             "unknown_cost": place.unknown}
            for (route, target), place in sorted(side.places.items())
        ],
    }  # fmt: skip


def _budget(use: BudgetUse) -> dict[str, Any]:
    return {
        "budget": use.budget.id,
        "limit_usd": usd(use.budget.limit_micro_usd),
        "fullest_usd": usd(use.fullest),
        "periods": use.windows,
        "passed": {f"{share:g}": times for share, times in use.passed},
        "refused": use.refused,
    }


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else msgspec.structs.asdict(estimate)


def _percent(estimate: Estimate | None) -> str:
    return _interval(estimate, "%")


def _points(estimate: Estimate | None) -> str:
    return _interval(estimate, "pt")


def _interval(estimate: Estimate | None, unit: str) -> str:
    if estimate is None:
        return "unknown"
    value = f"{estimate.value * 100:+.2f} {unit}"
    if estimate.low is None or estimate.high is None:
        return f"{value} [too few]"
    return f"{value} [{estimate.low * 100:+.2f}, {estimate.high * 100:+.2f}]"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _fine(share: float) -> str:
    """A share that may be far below a percent."""
    return f"{share:.1%}" if share >= 0.01 or not share else f"{share:.3%}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%MZ")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
