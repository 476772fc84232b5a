"""Decides whether a route's live scores still look like its calibration's, and which key wants too much of the strong.

Pure state of one process, fed with finished requests; time is an argument. See `gateway.guarantee.drift` for the test.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.guarantee.certificate import WINDOW
from gateway.guarantee.drift import Window, drift, window
from gateway.routing.caps import MOST_KEYS

if TYPE_CHECKING:
    from gateway.routing.thresholds import Calibration

CAPPED: Final = 20
"""Requests of one key held back by its cap within `CAPPED_S` that are an alarm: chance does not go so far."""
CAPPED_S: Final = 3600.0
QUIET_S: Final = 86_400.0
"""How long after an alarm the same key on the same route raises none."""


MOST_WINDOWS: Final = 4
"""Calibrations of one route that are looked at together: a canary has its own beside that of the policy in force."""


class Drift:
    """The window of each calibration; of more than `MOST_WINDOWS` of a route the one begun first is dropped."""

    def __init__(self) -> None:
        self._windows: dict[str, dict[str, Window]] = {}

    def add(self, calibration: "Calibration", score: float) -> str | None:
        """Counts a request that was decided by the calibration: why that is stale, where a full window says so."""
        windows = self._windows.setdefault(calibration.route, {})
        seen = windows.get(calibration.hash)
        if seen is None:
            if len(windows) >= MOST_WINDOWS:
                del windows[next(iter(windows))]
            seen = windows[calibration.hash] = window(calibration)
        seen.add(calibration, score)
        if seen.seen < WINDOW:
            return None
        del windows[calibration.hash]
        return drift(calibration, seen, "to the weak target")


class Shares:
    """The share of strong calls among the last `WINDOW` requests of each route that its classifier chose for."""

    def __init__(self) -> None:
        self._routes: dict[str, deque[bool]] = {}

    def add(self, route: str, *, strong: bool) -> None:
        """Counts one."""
        self._routes.setdefault(route, deque(maxlen=WINDOW)).append(strong)

    def all(self) -> list[tuple[str, float]]:
        """By route."""
        return [(route, sum(seen) / len(seen)) for route, seen in self._routes.items()]


class _Held(msgspec.Struct):
    """How often a key's cap held a request back since `since_s`."""

    since_s: float
    count: int = 0
    alarmed_s: float | None = None


class CapAlarm:
    """Which keys run into the cap on strong calls again and again: prompts that are made to look hard do."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], _Held] = {}

    def add(self, route: str, key: str, now_s: float) -> bool:
        """Counts a request that the cap held back: whether this is the moment for an alarm."""
        held = self._keys.pop((route, key), None) or _Held(now_s)
        if len(self._keys) >= MOST_KEYS:
            del self._keys[next(iter(self._keys))]
        self._keys[route, key] = held
        if now_s - held.since_s > CAPPED_S:
            held.since_s, held.count = now_s, 0
        held.count += 1
        if held.count < CAPPED or (held.alarmed_s is not None and now_s - held.alarmed_s < QUIET_S):
            return False
        held.alarmed_s = now_s
        return True
