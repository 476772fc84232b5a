"""The labelled requests of each tenant on each route, in memory, and what they say of a new one.

Read from the label store in a thread, so that a look-up waits for nothing: a tenant's first requests are scored without
neighbours. Bounded: the newest `MOST` of a tenant on a route, `MOST_ROWS` in all, those that were asked for longest ago
give way. Never mixes tenants, encoders or pairs of models. Fails open: a store that is away leaves what is known.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.database import DatabaseError
from gateway.policy.choosing import Classify
from gateway.routing.decide import Scored
from gateway.routing.labels import DIMENSION, RoutingLabel, RoutingLabels
from gateway.routing.neighbours import K, Local, blend, local_gain

MOST = 10_000
MOST_ROWS = 100_000
"""About 160 MB."""
MOST_TENANTS = 1_000
REFRESH_S = 5.0
OVERLAP_S = 300.0
"""Labels of other replicas may be stored so much later than those that are known already."""
KEEP_S = 90 * 86_400.0

log = logging.getLogger("farthing.routing")


class Place(NamedTuple):
    """Whose labels, and of what: they are only compared with their like."""

    tenant: str
    route: str
    encoder: str
    weak: str
    strong: str


class Rows(NamedTuple):
    """Labels, the oldest first. `vectors` is `float32[n, 384]`, unit norm; `gains` is `float64[n]`."""

    ids: tuple[str, ...]
    at_s: tuple[float, ...]
    vectors: NDArray[np.float32]
    gains: NDArray[np.float64]

    def nearest(self, vector: NDArray[np.float32]) -> Local | None:
        """What the `K` nearest to a unit vector say."""
        cosines = np.vecdot(self.vectors, vector)
        best = np.argpartition(cosines, len(cosines) - K)[-K:] if len(cosines) > K else slice(None)
        return local_gain(cosines[best].astype(np.float64), self.gains[best])


NOTHING = Rows((), (), np.empty((0, DIMENSION), np.float32), np.empty(0))


class NeighbourIndex:
    """See the module. `encoder` is the version of the one that serves, `None` while there is none."""

    def __init__(
        self,
        labels: RoutingLabels,
        encoder: Callable[[], str | None],
        wall: Callable[[], float],
        *,
        most: int = MOST,
        most_rows: int = MOST_ROWS,
        refresh_s: float = REFRESH_S,
    ) -> None:
        self._labels = labels
        self._encoder = encoder
        self._wall = wall
        self._most = most
        self._most_rows = most_rows
        self._refresh_s = refresh_s
        self._known: OrderedDict[Place, Rows | None] = OrderedDict()
        self._asked: dict[Place, None] = {}
        self._wake = asyncio.Event()

    @property
    def rows(self) -> int:
        """How many labels are in memory."""
        return sum(len(rows.ids) for rows in self._known.values() if rows is not None)

    def score(self, tenant: str, rule: Classify, vector: NDArray[np.float32], scored: Scored) -> Scored:
        """A head's score, moved by the tenant's own labels where they are dense around `vector`."""
        encoder = self._encoder()
        if encoder is None or scored.score is None:
            return scored
        models = rule.versions
        place = Place(tenant, rule.route, encoder, models["weak"], models["strong"])
        rows = self._known.get(place)
        self._ask(place, known=place in self._known)
        local = rows.nearest(vector) if rows is not None and len(vector) == DIMENSION else None
        if local is None:
            return scored
        return Scored(blend(scored.score, local), "neighbours", scorer=scored.scorer)

    def _ask(self, place: Place, *, known: bool) -> None:
        self._asked[place] = None
        if known:
            self._known.move_to_end(place)
            return
        self._known[place] = None
        self._wake.set()
        if len(self._known) > MOST_TENANTS:
            self._known.popitem(last=False)

    async def run(self) -> None:
        """Reads what has been asked for, at once the first time and again every `REFRESH_S`; until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._refresh_s):
                    await self._wake.wait()
            except TimeoutError:
                places = list(self._asked)
                self._asked.clear()
            else:
                self._wake.clear()
                places = [place for place, rows in self._known.items() if rows is None]
            for place in places:
                await self._read(place)

    async def _read(self, place: Place) -> None:
        known = self._known.get(place) or NOTHING
        try:
            rows = await asyncio.to_thread(self._fresh, place, known)
        except DatabaseError as exc:
            log.warning("the labels of tenant %s on route %s are not read: %s", place.tenant, place.route, exc.message)
            return
        if place in self._known:
            self._known[place] = rows
        while self.rows > self._most_rows and len(self._known) > 1:
            self._known.popitem(last=False)

    def _fresh(self, place: Place, known: Rows) -> Rows:
        since_s = self._wall() - KEEP_S if not known.at_s else max(known.at_s) - OVERLAP_S
        found = self._labels.of_tenant(place.tenant, place.route, since_s, self._most)
        ids = set(known.ids)
        new = [label for label in reversed(found) if label.request_id not in ids and _fits(label, place)]
        return _joined(known, new, self._most) if new else known


def _fits(label: RoutingLabel, place: Place) -> bool:
    of = label.versions.get
    return (of("encoder"), of("weak"), of("strong")) == (place.encoder, place.weak, place.strong)


def _joined(known: Rows, new: list[RoutingLabel], most: int) -> Rows:
    vectors = np.frombuffer(b"".join(label.vector or b"" for label in new), "<f2").reshape(len(new), DIMENSION)
    gains = np.array([label.gain for label in new])
    return Rows(
        (*known.ids, *(label.request_id for label in new))[-most:],
        (*known.at_s, *(label.at_s for label in new))[-most:],
        np.concatenate([known.vectors, vectors.astype(np.float32)])[-most:],
        np.concatenate([known.gains, gains])[-most:],
    )
