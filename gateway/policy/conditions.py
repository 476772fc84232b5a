"""Conditions of a route that look at the request itself: its text, size, form, time and class. Pure, cheapest first."""

from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec

from gateway.policy.facts import Facts
from gateway.policy.patterns import AnyOf, Pattern


class Week(msgspec.Struct, frozen=True):
    """Minutes of the week, from Monday's midnight in `zone`: `open_[minute]` is 1 where it holds."""

    zone: ZoneInfo
    open_: bytes

    def holds(self, wall_s: float) -> bool:
        """Whether it holds at `wall_s`, seconds since the epoch."""
        now = datetime.fromtimestamp(wall_s, self.zone)
        return self.open_[(now.weekday() * 24 + now.hour) * 60 + now.minute] == 1


class Conditions(msgspec.Struct, frozen=True):
    """All that are given must hold. `None` sets no condition; of `regex` and of `keywords` any one is enough.

    `everywhere` looks at all text instead of the last user text. `names` are the keys that are given.
    """

    names: tuple[str, ...]
    min_input_tokens: int | None = None
    max_input_tokens: int | None = None
    latency: str | None = None
    tools: bool | None = None
    images: bool | None = None
    structured: bool | None = None
    week: Week | None = None
    sensitive: bool | None = None
    regex: AnyOf | None = None
    keywords: Pattern | None = None
    everywhere: bool = False

    def each(self, facts: Facts) -> Iterator[tuple[str, bool]]:
        """Every condition by the key that sets it (`hours` for days too), and whether it is met."""
        for name in self.names:
            if name == "days" and "hours" in self.names:
                continue
            if name == "min_input_tokens":
                yield name, facts.input_tokens >= (self.min_input_tokens or 0)
            elif name == "max_input_tokens":
                yield name, self.max_input_tokens is None or facts.input_tokens <= self.max_input_tokens
            elif name in ("hours", "days"):
                yield name, self.week is None or self.week.holds(facts.wall_s)
            elif name == "regex":
                yield name, self.regex is not None and self.regex.finds(self._text(facts))
            elif name == "keywords":
                yield name, self.keywords is not None and self.keywords.finds(self._text(facts))
            elif name == "sensitive":
                yield name, (facts.sensitive is not None) == self.sensitive
            else:
                yield name, getattr(facts, name) == getattr(self, name)

    def hold(self, facts: Facts) -> bool:
        """Whether the request meets all of them."""
        return (
            (self.min_input_tokens is None or facts.input_tokens >= self.min_input_tokens)
            and (self.max_input_tokens is None or facts.input_tokens <= self.max_input_tokens)
            and (self.latency is None or facts.latency == self.latency)
            and (self.tools is None or facts.tools == self.tools)
            and (self.images is None or facts.images == self.images)
            and (self.structured is None or facts.structured == self.structured)
            and (self.week is None or self.week.holds(facts.wall_s))
            and self._in_text(facts)
            and (self.sensitive is None or (facts.sensitive is not None) == self.sensitive)
        )

    def _in_text(self, facts: Facts) -> bool:
        if self.regex is None and self.keywords is None:
            return True
        text = self._text(facts)
        if self.keywords is not None and not self.keywords.finds(text):
            return False
        return self.regex is None or self.regex.finds(text)

    def _text(self, facts: Facts) -> bytes:
        return facts.text if self.everywhere else facts.last_text
