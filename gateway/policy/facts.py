"""What rules may ask about one request beside its caller and model; each fact is read once, and only when asked for.

Pure: the time is an argument. Text is looked at up to a bound; what rules of sensitivity cannot see whole is
sensitive.
"""

from typing import Final

import msgspec

from gateway.core.exchange import Call, Identity
from gateway.policy.patterns import AnyOf, encoded
from gateway.protocol import texts

MOST_CHARS: Final = 1 << 16
"""Of a text, so much is searched by a route's `regex` and `keywords`."""
MOST_SENSITIVE_CHARS: Final = 1 << 20
"""Of all text, so much is searched by the rules of sensitivity."""
BYTES_PER_TOKEN: Final = 4

SENSITIVE: Final = b"x-farthing-sensitive"
LATENCY: Final = b"x-farthing-latency"
_NO: Final = frozenset([b"false", b"0", b"no", b"off", b""])


class SensitiveRules(msgspec.Struct, frozen=True):
    """Which requests never leave self-hosted targets; any one is enough.

    `names` are those of the patterns in `text`, as reasons say them.
    """

    text: AnyOf | None = None
    names: tuple[str, ...] = ()
    tenants: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()

    @property
    def read_text(self) -> bool:
        """Whether any of them looks at text."""
        return self.text is not None


class Facts:
    """See the module. `wall_s` is seconds since the epoch; `rules` are `None` where the policy has none."""

    __slots__ = ("_everything", "_images", "_last", "_sensitive", "_structured", "call", "identity", "rules", "wall_s")

    def __init__(self, call: Call, identity: Identity, wall_s: float, rules: SensitiveRules | None) -> None:
        self.call = call
        self.identity = identity
        self.wall_s = wall_s
        self.rules = rules
        self._last: bytes | None = None
        self._everything: bytes | None = None
        self._images: bool | None = None
        self._structured: bool | None = None
        self._sensitive: str | None = None

    @property
    def input_tokens(self) -> int:
        """Estimated, as rates of tokens count them."""
        return len(self.call.raw) // BYTES_PER_TOKEN

    @property
    def tools(self) -> bool:
        """Whether the request offers tools."""
        return self.call.doc is not None and texts.has_tools(self.call.doc)

    @property
    def images(self) -> bool:
        """Whether it holds images."""
        if self._images is None:
            self._images = self.call.doc is not None and texts.has_images(self.call.doc)
        return self._images

    @property
    def structured(self) -> bool:
        """Whether an answer in JSON is asked for."""
        if self._structured is None:
            self._structured = self.call.doc is not None and texts.is_structured(self.call.doc)
        return self._structured

    @property
    def latency(self) -> str:
        """`interactive` unless the caller says `batch`."""
        return "batch" if self.call.index.get(LATENCY, b"").strip().lower() == b"batch" else "interactive"

    @property
    def last_text(self) -> bytes:
        """The last user text as UTF-8."""
        if self._last is None:
            self._last = encoded(texts.last_user_text(self.call.doc)[:MOST_CHARS])
        return self._last

    @property
    def text(self) -> bytes:
        """All text as UTF-8."""
        if self._everything is None:
            doc = self.call.doc
            self._everything = encoded(texts.all_text(doc, MOST_CHARS)[0]) if doc is not None else b""
        return self._everything

    @property
    def sensitive(self) -> str | None:
        """Why the request must not leave self-hosted targets, `None` when it may: the name of the rule that says so."""
        if self._sensitive is None:
            self._sensitive = self._look() or ""
        return self._sensitive or None

    def _look(self) -> str | None:
        asked = self.call.index.get(SENSITIVE)
        if asked is not None and asked.strip().lower() not in _NO:
            return "header"
        rules = self.rules
        if rules is None:
            return None
        if self.identity.tenant in rules.tenants:
            return "tenant"
        if not rules.tags.isdisjoint(self.identity.tags):
            return "tag"
        return self._search(rules.text, rules.names) if rules.text is not None else None

    def _search(self, patterns: AnyOf, names: tuple[str, ...]) -> str | None:
        call = self.call
        if call.doc is not None:
            text, whole = texts.all_text(call.doc, MOST_SENSITIVE_CHARS)
            data = encoded(text)
        else:
            data, whole = call.raw[:MOST_SENSITIVE_CHARS], len(call.raw) <= MOST_SENSITIVE_CHARS
        found = patterns.first(data)
        if found is not None:
            return names[found]
        return None if whole else "too_long"
