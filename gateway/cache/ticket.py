"""What the look-up of one request has found out, for the stage behind admission and for whoever explains it."""

from typing import TYPE_CHECKING

from gateway.policy.caching import CacheRule

if TYPE_CHECKING:
    from gateway.cache.entry import Entry
    from gateway.cache.semantic import Match
    from gateway.cache.store import Vector


class Ticket:
    """Filled on the way. `found` answers the request; `nearest` is the best match, served or not."""

    __slots__ = ("exact", "found", "nearest", "read", "rule", "scope", "text", "vector", "write")

    def __init__(self, rule: CacheRule, exact: str, *, read: bool, write: bool) -> None:
        self.rule = rule
        self.exact = exact
        self.read = read
        self.write = write
        self.scope = ""
        self.text: str | None = None
        self.vector: Vector | None = None
        self.found: Entry | None = None
        self.nearest: Match | None = None
