"""What is counted while a candidate is on trial: both sides of a canary, and what a shadow would have done. Pure.

Counts are of one gateway and one trial, and add up over gateways. Money is micro-USD.
"""

from typing import Final

import msgspec

from gateway.core.exchange import RequestRecord

MOST_MOVES: Final = 100
OTHER: Final = "other -> other"
"""Pairs of targets beyond `MOST_MOVES`."""
_BROKEN: Final = frozenset(["upstream_error", "truncated", "internal_error"])


class Side(msgspec.Struct, frozen=True):
    """Requests that one policy decided. `errors` are nobody's but the upstream's or ours, `refused` the caller's.

    `micro_usd` is the cost of those whose cost is known, `squares` that of each squared; `unpriced` counts the others.
    """

    requests: int = 0
    errors: int = 0
    refused: int = 0
    micro_usd: int = 0
    unpriced: int = 0
    squares: float = 0.0


class Shadow(msgspec.Struct, frozen=True):
    """Requests that the candidate decided beside the policy in force, by how that came out; see `Shadowed`.

    `cached` were answered from the cache, and not compared. `moves` counts the others of `other` by `FROM -> TO`.
    `micro_usd` is what they would have cost more at the same tokens, where `priced` many could be told.
    """

    same: int = 0
    other: int = 0
    undecided: int = 0
    failed: int = 0
    cached: int = 0
    micro_usd: int = 0
    priced: int = 0
    moves: dict[str, int] = {}

    @property
    def compared(self) -> int:
        """Those of which it is known whether they agree."""
        return self.same + self.other


class Counts(msgspec.Struct, frozen=True):
    """All of it."""

    in_force: Side = Side()
    candidate: Side = Side()
    shadow: Shadow = Shadow()


class Tally:
    """The counts of one gateway while it runs; `counts` are those of the trial that `begin` named."""

    def __init__(self) -> None:
        self.trial: str | None = None
        self._sides: dict[bool, list[int]] = {}
        self._squares: dict[bool, float] = {}
        self._shadow: dict[str, int] = {}
        self._moves: dict[str, int] = {}
        self.begin(None)

    def begin(self, trial: str | None) -> None:
        """Counts for `trial` from now on: anew, unless it is the one before."""
        if trial is not None and trial == self.trial:
            return
        self.trial = trial
        self._sides = {False: [0] * 5, True: [0] * 5}
        self._squares = {False: 0.0, True: 0.0}
        self._shadow = dict.fromkeys(("same", "other", "undecided", "failed", "cached", "micro_usd", "priced"), 0)
        self._moves = {}

    def add(self, record: RequestRecord, *, candidate: bool) -> None:
        """A finished request, decided by the candidate or not."""
        side = self._sides[candidate]
        side[0] += 1
        side[1] += record.outcome in _BROKEN
        side[2] += record.outcome == "client_error"
        if record.cost_micro_usd is not None:
            side[3] += record.cost_micro_usd
            self._squares[candidate] += float(record.cost_micro_usd) ** 2
        elif record.attempts:
            side[4] += 1
        shadow = record.shadow
        if shadow is None:
            return
        self._shadow[shadow.verdict] += 1
        if shadow.verdict == "other":
            self._move(f"{shadow.origin} -> {shadow.target}")
        if shadow.micro_usd is not None:
            self._shadow["micro_usd"] += shadow.micro_usd
            self._shadow["priced"] += 1

    def cached(self) -> None:
        """A request that was not compared: its answer was stored."""
        self._shadow["cached"] += 1

    def _move(self, pair: str) -> None:
        if pair not in self._moves and len(self._moves) >= MOST_MOVES:
            pair = OTHER
        self._moves[pair] = self._moves.get(pair, 0) + 1

    @property
    def counts(self) -> Counts:
        """So far."""
        shadow = Shadow(**self._shadow, moves=dict(self._moves))
        return Counts(self._side(candidate=False), self._side(candidate=True), shadow)

    def _side(self, *, candidate: bool) -> Side:
        requests, errors, refused, micro_usd, unpriced = self._sides[candidate]
        return Side(requests, errors, refused, micro_usd, unpriced, self._squares[candidate])


def total(parts: list[Counts]) -> Counts:
    """The counts of several gateways together."""
    moves: dict[str, int] = {}
    for part in parts:
        for pair, count in part.shadow.moves.items():
            moves[pair] = moves.get(pair, 0) + count
    shadow = {
        name: sum(getattr(part.shadow, name) for part in parts) for name in Shadow.__struct_fields__ if name != "moves"
    }
    return Counts(
        _sum([part.in_force for part in parts]), _sum([part.candidate for part in parts]), Shadow(**shadow, moves=moves)
    )


def _sum(sides: list[Side]) -> Side:
    return Side(*(sum(getattr(side, name) for side in sides) for name in Side.__struct_fields__))
