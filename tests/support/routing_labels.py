"""Labels of routing for tests, and a store in memory with the contract of `RoutingLabels`."""

from typing import Any

import numpy as np

from gateway.routing.labels import RoutingLabel

AT_S = 1_800_000_000.0
VERSIONS = {"features": "1", "head": "h", "head_embed": "e", "encoder": "e1", "weak": "l8", "strong": "l70"}


def unit(*leading: float) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """`float32[384]` of unit norm that begins with these numbers, the rest in the last place."""
    vector = np.zeros(384, np.float32)
    vector[: len(leading)] = leading
    vector[-1] = np.sqrt(max(0.0, 1.0 - float(vector @ vector)))
    return vector


def packed(vector: "np.ndarray[Any, np.dtype[np.float32]]") -> bytes:
    """As labels hold it."""
    return vector.astype("<f2").tobytes()


def label(n: int = 0, **changed: Any) -> RoutingLabel:
    """The label number `n`, a second after the one before."""
    members: dict[str, Any] = {
        "request_id": f"request-{n:05}", "at_s": AT_S + n, "tenant": "shop", "route": "r", "weak": "small",
        "strong": "big", "tier": "embed", "score": 0.1, "versions": VERSIONS, "weak_quality": 0.25,
        "strong_quality": 1.0, "weak_cost_micro": 3, "strong_cost_micro": None, "weight": 50.0, "source": "judged",
        "vector": None,
    }  # fmt: skip
    return RoutingLabel(**members | changed)


class MemoryLabels:
    """`RoutingLabels` in a dict."""

    def __init__(self) -> None:
        self.rows: dict[str, RoutingLabel] = {}

    def add(self, row: RoutingLabel) -> None:
        self.rows.setdefault(row.request_id, row)

    def of(self, route: str, since_s: float, until_s: float) -> list[RoutingLabel]:
        found = [row for row in self.rows.values() if row.route == route and since_s <= row.at_s < until_s]
        return sorted(found, key=lambda row: (row.at_s, row.request_id))

    def of_tenant(self, tenant: str, route: str, since_s: float, most: int) -> list[RoutingLabel]:
        found = [row for row in self.of(route, since_s, 1e12) if row.tenant == tenant and row.vector is not None]
        return found[::-1][:most]

    def forget(self, before_s: float) -> int:
        old = [id_ for id_, row in self.rows.items() if row.at_s < before_s]
        for id_ in old:
            del self.rows[id_]
        return len(old)
