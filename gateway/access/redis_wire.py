"""What the Redis scripts are told and what their answers mean. Pure: the scripts' headers are the specification."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from gateway.access.accounts import Refusal, Spent, Window
from gateway.access.embedded import RESERVED_RETRY_S, SLOT_RETRY_S
from gateway.access.grants import Grant, Level, Shown
from gateway.access.owner import Owner
from gateway.core.limits import Applies

Answer = list[Any]
"""Status, epoch, Redis' milliseconds, then what the status says."""
Arguments = list[str | int]

_FIRST = 3

_shown = lru_cache(4096)(Shown)


class Terms(msgspec.Struct):
    """What the scripts need to know of a lease: windows; rates that get the estimate's rest back; slots."""

    w: list[str]
    k: list[tuple[str, int, int]]
    n: list[str]


class Held:
    """A lease of this replica: what it takes to bring it back. `over_s` is monotonic; `epoch` where it is known."""

    __slots__ = ("epoch", "grant", "over_s", "reserved", "terms", "windows")

    def __init__(self, windows: Sequence[Window], terms: str, reserved: int, over_s: float) -> None:
        self.windows = windows
        self.terms = terms
        self.reserved = reserved
        self.over_s = over_s
        self.epoch = ""
        self.grant = Grant(tuple([window.id for window in windows]))


class End(NamedTuple):
    """A settle or release on its way. `undo`: of a reserve that may or may not have reached Redis."""

    request_id: str
    charged_micro_usd: int
    tokens: int
    ended_s: float
    epoch: str = ""
    terms: str = ""
    windows: Sequence[Window] = ()
    undo: bool = False


def terms_of(applies: Applies, windows: Sequence[Window], tokens: int) -> str:
    """The lease's terms as JSON."""
    return msgspec.json.encode(
        Terms(
            [window.id for window in windows],
            [(rate.id, rate.per_minute, tokens) for rate in applies.rates if rate.kind == "tokens"],
            [slot.id for slot in applies.concurrency],
        )
    ).decode()


def windows_in(terms: str) -> tuple[str, ...]:
    """The ids of the windows that hold a lease with these terms."""
    return tuple(msgspec.json.decode(terms, type=Terms).w)


def reserve_arguments(
    request_id: str, epoch: str, applies: Applies, held: Held, tokens: int, lease_s: float, owner: Owner
) -> Arguments:
    """As reserve.lua, but for the prefix; the epoch is the second."""
    args: Arguments = [request_id, epoch, held.reserved, int(lease_s * 1000), held.terms]
    args += (len(held.windows), len(applies.rates), len(applies.concurrency))
    for window in held.windows:
        args += (window.id, window.budget.limit_micro_usd)
    for rate in applies.rates:
        args += (rate.id, rate.per_minute, 1 if rate.kind == "requests" else tokens)
    for slot in applies.concurrency:
        args += (slot.id, slot.most)
    return [*args, *owner]


def grant_of(applies: Applies, held: Held, answer: Answer) -> Grant:
    """The grant in a `granted` answer of reserve.lua."""
    levels_at = _FIRST + 2 * len(held.windows)
    states = answer[_FIRST:levels_at]
    spent = [
        Spent(window, committed, reserved)
        for window, committed, reserved in zip(held.windows, states[::2], states[1::2], strict=True)
    ]
    levels = [
        Level(_shown(rate), left, full_ms / 1000)
        for rate, left, full_ms in zip(applies.rates, answer[levels_at::2], answer[levels_at + 1 :: 2], strict=True)
    ]
    return Grant(held.grant.windows, tuple(spent), tuple(levels))


def refusal_of(applies: Applies, held: Held, answer: Answer) -> Refusal | None:
    """The refusal in any other answer of reserve.lua; `None` when the request has ended already."""
    status = answer[0]
    if status == "budget":
        spent = Spent(held.windows[answer[3]], answer[4], answer[5])
        held_by_others = spent.committed + held.reserved <= spent.window.budget.limit_micro_usd
        return Refusal(spent=spent, retry_after_s=RESERVED_RETRY_S if held_by_others else None)
    if status == "rate":
        level = Level(_shown(applies.rates[answer[3]]), max(0, answer[4]), answer[5] / 1000)
        return Refusal(level=level, retry_after_s=answer[6] / 1000)
    if status == "slot":
        return Refusal(concurrency=applies.concurrency[answer[3]], retry_after_s=SLOT_RETRY_S)
    return None


def finish_arguments(ends: Sequence[End], replica: str, ahead_ms: float, lag_ms: int) -> Arguments:
    """As finish.lua, but for the prefix. `ahead_ms` is the most that Redis' clock can be ahead of the replica's."""
    args: Arguments = [replica, lag_ms]
    for end in ends:
        ended_ms = end.ended_s * 1000
        args += (end.request_id, end.charged_micro_usd, end.tokens, end.epoch)
        args += (repr(ended_ms), int(ended_ms + ahead_ms) + 1, end.terms, "1" if end.undo else "")
    return args


def uncounted_in(answer: Answer) -> dict[int, list[int]]:
    """Of the ends that finish.lua has left as they are, by place: places of the windows that must be counted first."""
    found: dict[int, list[int]] = {}
    for end, window in zip(answer[_FIRST::2], answer[_FIRST + 1 :: 2], strict=True):
        found.setdefault(end, []).append(window)
    return found
