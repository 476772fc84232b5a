"""Decides whether a target or replica may be called, from how its calls ended; knows no clock and does no I/O.

The rules of this file, as in h11: the machine is the table `TRANSITIONS`, all changes of state go through `_move`,
and an event that the table does not list for a state is a defect. Time is an argument (monotonic seconds).

CLOSED: calls pass. OPEN: none does until `retry_at`. HALF_OPEN: one probe is out. COOLING is CLOSED with a date:
the target asked for quiet (429, Retry-After), which is no fault and needs no probe.
"""

import enum
from collections.abc import Callable, Collection, Iterator
from typing import Final, Literal

from gateway.dispatch.window import Window

FAILURES_IN_A_ROW: Final = 5
RATE_CALLS: Final = 20
RATE_SPAN_S: Final = 10.0
OPEN_BASE_S: Final = 5.0
OPEN_CAP_S: Final = 30.0
"""The longest that a healthy target can wait for a probe, so also the time in which traffic returns to it."""
COOL_CAP_S: Final = 60.0
"""A longer Retry-After (a daily quota) is asked about once a minute instead of believed."""
PROBE_LEASE_S: Final = 30.0
"""A probe that has not even begun to answer by then no longer keeps others from trying."""

Failure = Literal["connect", "timeout", "status", "broken", "auth"]
"""`status` is 408 or 5xx, `broken` a truncated or garbled answer, `auth` a refusal of our key or account."""


class State(enum.Enum):
    """What metrics show."""

    CLOSED = "closed"
    COOLING = "cooling"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Event(enum.Enum):
    """What can happen to a breaker's state."""

    ALIVE = enum.auto()
    """A call was answered, whatever the answer (429 and 400 too)."""
    TRIP = enum.auto()
    """Enough failures: `FAILURES_IN_A_ROW`, half of `RATE_CALLS`, any `auth`, or a probe's."""
    PROBE = enum.auto()
    """The open time (or the previous probe's lease) is over and a call asked."""
    ABANDONED = enum.auto()
    """The probe's caller left: it proved nothing."""


TRANSITIONS: Final[dict[State, dict[Event, State]]] = {
    State.CLOSED: {Event.ALIVE: State.CLOSED, Event.TRIP: State.OPEN},
    # A probe whose lease ran out or whose successor was abandoned may still report while the breaker is open.
    State.OPEN: {Event.PROBE: State.HALF_OPEN, Event.ALIVE: State.CLOSED, Event.TRIP: State.OPEN},
    State.HALF_OPEN: {
        Event.PROBE: State.HALF_OPEN,
        Event.ALIVE: State.CLOSED,
        Event.TRIP: State.OPEN,
        Event.ABANDONED: State.OPEN,
    },
}

_ALWAYS: Final = float("-inf")


class Breaker:
    """One target's or replica's circuit breaker.

    Each admitted call holds a permit (a positive int) and reports with it, exactly once, by `on_success`,
    `on_failure`, `on_cool` or `on_abandoned`; `on_first_byte` may come before. What a call says that was admitted
    before the last trip is ignored: it describes the past (as the generations of sony/gobreaker).

    Opens for `OPEN_BASE_S` x 2^k, at most `OPEN_CAP_S`, k being the openings since the last success, shortened by
    up to the fraction `jitter` so that gateways do not probe in step. `rng` returns floats in [0, 1).
    """

    __slots__ = ("_failures", "_jitter", "_oldest", "_rng", "_serial", "_state", "_trips", "_window", "retry_at")

    retry_at: float
    """Monotonic time before which no call is admitted; `-inf` when nothing stands in the way."""

    def __init__(self, rng: Callable[[], float], jitter: float = 0.2) -> None:
        self._rng = rng
        self._jitter = jitter
        self._state = State.CLOSED
        self._failures = 0
        self._trips = 0
        self._serial = 1
        self._oldest = 1
        self._window = Window(RATE_SPAN_S)
        self.retry_at = _ALWAYS

    def allow(self, now: float) -> bool:
        """Whether `try_acquire` would admit a call. Changes nothing."""
        return now >= self.retry_at

    def ready_in(self, now: float) -> float:
        """Seconds until a call is admitted; 0.0 means now."""
        return max(0.0, self.retry_at - now)

    def state(self, now: float) -> State:
        """For metrics. An open breaker whose time is over stays OPEN until a call comes to probe with."""
        if self._state is State.CLOSED and now < self.retry_at:
            return State.COOLING
        return self._state

    def try_acquire(self, now: float) -> int:
        """A permit for one call, or 0 when it must not be made. Takes the half-open probe if one is due."""
        if now < self.retry_at:
            return 0
        if self._state is not State.CLOSED:
            self._move(Event.PROBE)
            self._serial += 1
            self.retry_at = now + PROBE_LEASE_S
        return self._serial

    def on_first_byte(self, permit: int) -> None:
        """A good answer has begun: a half-open breaker closes without waiting for a long stream's end."""
        if self._state is not State.CLOSED and permit >= self._oldest:
            self._close()

    def on_success(self, now: float, permit: int) -> None:
        """The call was answered in full, or refused by a 4xx that says the target works."""
        if permit < self._oldest:
            return
        self._window.add(now, 1, 0)
        self._failures = 0
        self._trips = 0
        if self._state is not State.CLOSED:
            self._close()

    def on_failure(self, now: float, permit: int, kind: Failure) -> None:
        """The call failed in a way that counts."""
        if permit < self._oldest:
            return
        window = self._window
        window.add(now, 1, 1)
        self._failures += 1
        if (
            self._state is not State.CLOSED
            or kind == "auth"
            or self._failures >= FAILURES_IN_A_ROW
            or (window.total >= RATE_CALLS and window.marked * 2 >= window.total)
        ):
            self._open(now)

    def on_cool(self, now: float, permit: int, until: float) -> None:
        """The target asked for no calls before `until` (`now` if it named no time): alive, and no failure."""
        if permit < self._oldest:
            return
        if self._state is not State.CLOSED:
            self._close()
        self.retry_at = max(self.retry_at, min(until, now + COOL_CAP_S))

    def on_abandoned(self, now: float, permit: int) -> None:
        """The caller left before the answer: no evidence. A probe's place is free for the next call at once."""
        if self._state is State.HALF_OPEN and permit == self._serial:
            self._move(Event.ABANDONED)
            self.retry_at = now

    def _open(self, now: float) -> None:
        self._move(Event.TRIP)
        open_s = min(OPEN_CAP_S, OPEN_BASE_S * 2.0 ** min(self._trips, 8))
        self.retry_at = now + open_s * (1.0 - self._jitter * self._rng())
        self._trips += 1
        self._serial += 1
        self._oldest = self._serial
        self._failures = 0
        self._window.clear()

    def _close(self) -> None:
        self._move(Event.ALIVE)
        self.retry_at = _ALWAYS

    def _move(self, event: Event) -> None:
        self._state = TRANSITIONS[self._state][event]


class BreakerRegistry:
    """Breakers by name, which outlive the policy that named them."""

    def __init__(self, rng: Callable[[], float]) -> None:
        self._rng = rng
        self._breakers: dict[str, Breaker] = {}

    def get(self, name: str) -> Breaker:
        """The breaker of this name: always the same one, closed when first asked for."""
        found = self._breakers.get(name)
        if found is None:
            found = self._breakers[name] = Breaker(self._rng)
        return found

    def retain(self, names: Collection[str]) -> None:
        """Forgets the breakers of targets that no policy names any more."""
        self._breakers = {name: breaker for name, breaker in self._breakers.items() if name in names}

    def items(self) -> Iterator[tuple[str, Breaker]]:
        """All breakers, for metrics."""
        return iter(list(self._breakers.items()))
