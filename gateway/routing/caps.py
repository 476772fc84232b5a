"""How often each key's requests may be sent to the strong target because they look hard. Pure state, no clock.

Each classified request of a key earns its route's share; each that the classifier sends to the strong target spends
one. So of any n requests in a row at most `share * (n + BURST)` are spent, whatever the prompts are made of.
"""

from typing import Final

BURST: Final = 50
"""Requests whose share may be spent at once: hard questions come in runs."""
MOST_KEYS: Final = 10_000


class StrongCaps:
    """Credit by (route, key), in this process. The keys that were not seen for longest are forgotten first."""

    def __init__(self) -> None:
        self._credit: dict[tuple[str, str], float] = {}

    def allows(self, route: str, key: str, share: float) -> bool:
        """Counts a request that looks hard: whether it may go to the strong target."""
        credit = self._earn(route, key, share)
        if credit < 1:
            return False
        self._credit[route, key] = credit - 1
        return True

    def earn(self, route: str, key: str, share: float) -> None:
        """Counts a request that goes to the weak one."""
        self._earn(route, key, share)

    def _earn(self, route: str, key: str, share: float) -> float:
        most = max(1.0, share * BURST)
        credit = min(most, self._credit.pop((route, key), most) + share)
        if len(self._credit) >= MOST_KEYS:
            del self._credit[next(iter(self._credit))]
        self._credit[route, key] = credit
        return credit
