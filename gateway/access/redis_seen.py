"""What Redis last told of the windows of one replica, for metrics and for its share of them. Knows no Redis."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

from gateway.access.accounts import Spent
from gateway.access.embedded import FORGET_WINDOW_S

PER_BEAT = 200


class Seen:
    """States by window id. Memory is bounded by the windows in use: each new one looks at the two oldest."""

    def __init__(self) -> None:
        self._states: OrderedDict[str, Spent] = OrderedDict()
        self._from = 0

    def __contains__(self, id_: str) -> bool:
        return id_ in self._states

    def __getitem__(self, id_: str) -> Spent:
        return self._states[id_]

    def see(self, spent: Spent) -> None:
        """Remembers a state; forgets old windows that ended long before this one began."""
        window = spent.window
        if window.id not in self._states:
            for _ in range(min(2, len(self._states))):
                id_, oldest = next(iter(self._states.items()))
                self._states.move_to_end(id_)
                if oldest.window.ends_s is not None and oldest.window.ends_s + FORGET_WINDOW_S <= window.starts_s:
                    del self._states[id_]
        self._states[window.id] = spent

    def next(self) -> list[str]:
        """The ids to ask for at this heartbeat: all in turn, at most `PER_BEAT` at once."""
        ids = list(islice(self._states, self._from, self._from + PER_BEAT))
        self._from = self._from + PER_BEAT if len(ids) == PER_BEAT else 0
        return ids

    def told(self, ids: Sequence[str], states: Sequence[int]) -> None:
        """Committed and reserved of each of `ids`, one after the other; committed is -1 where Redis does not know."""
        for id_, committed, reserved in zip(ids, states[::2], states[1::2], strict=True):
            known = self._states.get(id_)
            if committed >= 0 and known is not None:
                self._states[id_] = Spent(known.window, committed, reserved)

    def open_at(self, now: float) -> list[Spent]:
        """The windows that hold `now`."""
        return [
            spent
            for spent in self._states.values()
            if spent.window.starts_s <= now and (spent.window.ends_s is None or now < spent.window.ends_s)
        ]
