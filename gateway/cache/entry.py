"""What the cache keeps of an answer, and what it says of a look-up; knows nothing of stores, vectors or thresholds."""

from typing import Literal

import msgspec

from gateway.core.exchange import Endpoint, Usage

Kind = Literal["exact", "semantic", "coalesced"]


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One answer, complete and clean, in the endpoint's JSON form whatever form it was streamed in.

    `exact` and `scope` are lower-case hex SHA-256 digests that already hold the tenant (see `gateway.cache.keys`).
    `text` is the last user message, and `None` for an entry that only its exact key may find. Times are Unix seconds,
    `took_s` is what the upstream needed. `cost_micro_usd` is what the answer was charged, `None` when its price is
    unknown.
    """

    id: str
    exact: str
    scope: str
    text: str | None
    endpoint: Endpoint
    body: bytes
    usage: Usage
    cost_micro_usd: int | None
    tenant: str
    key: str
    route: str
    target: str
    provider: str
    model: str
    tags: tuple[str, ...]
    stored_s: float
    expires_s: float
    took_s: float = 0.0

    @property
    def size(self) -> int:
        """Bytes that it takes, roughly: what eviction counts."""
        return len(self.body) + len(self.text or "") + 600


class Selector(msgspec.Struct, frozen=True):
    """Which entries to delete: those that match every field that is given; an empty one matches nothing.

    `all` alone matches everything.
    """

    tenant: str | None = None
    tag: str | None = None
    route: str | None = None
    exact: str | None = None
    id: str | None = None
    all: bool = False

    @property
    def empty(self) -> bool:
        """Nothing was asked for."""
        return self == Selector()

    def matches(self, entry: Entry) -> bool:
        """Whether the entry is meant."""
        return (
            not self.empty
            and self.tenant in (None, entry.tenant)
            and (self.tag is None or self.tag in entry.tags)
            and self.route in (None, entry.route)
            and self.exact in (None, entry.exact)
            and self.id in (None, entry.id)
        )
