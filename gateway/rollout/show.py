"""How rollouts are shown to people and machines. Pure."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.core.money import usd
from gateway.rollout.operate import Status
from gateway.rollout.store import Kept
from gateway.rollout.tally import Counts, Side

MOST_MOVES = 10


def shown_status(status: Status) -> dict[str, Any]:
    """For machines. Money is in USD strings, shares are fractions."""
    trial, pin, counts = _trial(status), status.state.pin, status.counts
    shadow = counts.shadow
    return {
        "object": "rollout",
        "version": status.state.version,
        "in_force": status.in_force,
        "on_trial": trial,
        "pin": msgspec.to_builtins(pin) if pin is not None else None,
        "stopped": list(status.state.stopped),
        "counts": {
            "in_force": _side(counts.in_force),
            "candidate": _side(counts.candidate),
            "shadow": msgspec.to_builtins(shadow)
            | {"disagreement": _ratio(shadow.other, shadow.compared), "cost_usd": usd(shadow.micro_usd)},
        },
        "gateways": [
            {key: value for key, value in msgspec.to_builtins(report).items() if key not in ("counts", "trial")}
            for report in status.gateways
        ],
    }


def shown_history(history: list[Kept]) -> list[dict[str, Any]]:
    """For machines, the last one first."""
    return [msgspec.to_builtins(kept) for kept in history]


def status_text(status: Status) -> str:
    """For people."""
    return "".join(f"{line}\n" for line in _lines(status))


def history_text(history: list[Kept], in_force: dict[str, int]) -> str:
    """For people."""
    rows = [("policy", "first in force", "last came into force", "")]
    rows += [
        (kept.hash, date(kept.first_s), date(kept.last_s), "in force" if kept.hash in in_force else "")
        for kept in history
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )


def _lines(status: Status) -> Iterator[str]:
    served = ", ".join(f"{hash_} on {_many(n, 'gateway')}" for hash_, n in sorted(status.in_force.items()))
    yield f"in force   {served or 'no gateway is running'}"
    pin = status.state.pin
    if pin is not None:
        yield f"pinned     {pin.policy} over {', '.join(pin.over)} since {date(pin.since_s)} by {pin.by}"
    trial = _trial(status)
    if trial is None:
        yield "on trial   nothing"
    else:
        since = f" since {date(trial['since_s'])} by {trial['by']}" if trial["by"] else " by rollout.yaml"
        yield f"on trial   {trial['policy']}, {trial['mode']}, {100 * trial['share']:.4g} % of requests{since}"
        if trial["aborted"] is not None:
            yield f"ABORTED    {trial['aborted']}"
            yield "           fix: farthing policy rollback, or farthing policy rollout set --share 5%"
        elif trial["abort_on"]:
            yield f"abort on   {trial['abort_on']}"
        yield from _fit_lines(status)
        yield from _count_lines(status.counts, str(trial["mode"]))
    for report in status.gateways:
        for error in report.errors:
            yield f"error      {report.gateway}: {error}"
        if report.version < status.state.version:
            yield f"behind     {report.gateway}"


def _fit_lines(status: Status) -> Iterator[str]:
    """By which certificates routes decide, each said once; who alone says it is named."""
    reports = status.gateways
    for side, said in (
        ("in force", {report.gateway: report.fits for report in reports}),
        ("candidate", {report.gateway: report.candidate_fits for report in reports}),
    ):
        for fit in dict.fromkeys(fit for fits in said.values() for fit in fits):
            by = [gateway for gateway, fits in said.items() if fit in fits]
            yield f"  {side:<10} {fit}" + (f" ({', '.join(by)})" if len(by) < len(reports) else "")


def _count_lines(counts: Counts, mode: str) -> Iterator[str]:
    sides = [("in force", counts.in_force), ("candidate", counts.candidate)]
    for name, side in sides:
        if name == "candidate" and mode == "shadow" and not side.requests:
            continue
        known = f"${usd(side.micro_usd)}" + (f" ({side.unpriced} of unknown price)" if side.unpriced else "")
        each = side.micro_usd / max(1, side.requests - side.unpriced) / 1_000_000
        yield (
            f"  {name:<10} {side.requests:,} requests, {_percent(side.errors, side.requests)} errors, "
            f"{_percent(side.refused, side.requests)} refused, {known}, ${each:.6f} a request"
        )
    shadow = counts.shadow
    if mode == "shadow" or shadow.compared:
        yield f"  shadow     {_percent(shadow.other, shadow.compared)} of {shadow.compared:,} would go elsewhere"
        left = [(name, getattr(shadow, name)) for name in ("undecided", "cached", "failed")]
        if any(n for _, n in left):
            yield "             not compared: " + ", ".join(f"{n:,} {name}" for name, n in left if n)
        if shadow.priced:
            more = "more" if shadow.micro_usd >= 0 else "less"
            cost = usd(abs(shadow.micro_usd))
            yield f"             would cost ${cost} {more} over {shadow.priced:,} requests, at the same tokens"
        moves = sorted(shadow.moves.items(), key=lambda item: -item[1])
        for pair, n in moves[:MOST_MOVES]:
            yield f"             {pair}: {n:,}"


def _trial(status: Status) -> dict[str, Any] | None:
    """What gateways have on trial; without any, what was asked for."""
    asked = status.state.trial
    for report in status.gateways:
        if report.candidate is not None:
            own = asked if asked is not None and report.declared is None else None
            return {
                "policy": report.candidate,
                "mode": report.mode,
                "share": report.share,
                "since_s": own.since_s if own is not None else None,
                "by": own.by if own is not None else None,
                "abort_on": own.abort_on or None if own is not None else None,
                "aborted": own.aborted if own is not None else None,
            }
    if asked is None:
        return None
    return {
        "policy": asked.candidate,
        "mode": asked.mode,
        "share": asked.share,
        "since_s": asked.since_s,
        "by": asked.by,
        "abort_on": asked.abort_on or None,
        "aborted": asked.aborted,
    }


def _side(side: Side) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(side)
    del found["squares"]
    return found | {"cost_usd": usd(side.micro_usd), "error_rate": _ratio(side.errors, side.requests)}


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else "-"


def _many(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def date(seconds: float) -> str:
    """UTC, to the second."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}Z"
