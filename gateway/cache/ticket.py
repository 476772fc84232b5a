"""What the look-up of one request has found out, for the stage behind admission and for whoever explains it."""

from typing import TYPE_CHECKING

from gateway.policy.caching import CacheRule

if TYPE_CHECKING:
    from gateway.cache.entry import Entry
    from gateway.cache.semantic import Match
    from gateway.cache.store import Vector
    from gateway.guarantee.certificate import Certificate


class Ticket:
    """Filled on the way. `found` answers the request; `nearest` is the best match, served or not.

    `judged`: whether there is a neighbour is known; a look-up that failed says nothing of it. `certificate` is the one
    that was asked, once what is near is known.
    """

    __slots__ = (
        "certificate",
        "exact",
        "found",
        "judged",
        "nearest",
        "read",
        "rule",
        "scope",
        "text",
        "vector",
        "write",
    )

    def __init__(self, rule: CacheRule, exact: str, *, read: bool, write: bool) -> None:
        self.rule = rule
        self.exact = exact
        self.read = read
        self.write = write
        self.scope = ""
        self.text: str | None = None
        self.vector: Vector | None = None
        self.found: Entry | None = None
        self.judged = True
        self.certificate: Certificate | None = None
        self.nearest: Match | None = None
