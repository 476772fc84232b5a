"""What differs between two policies, in their authors' words: routes, targets, money, keys by name, prices. Pure.

Looks at documents, not at text: layout, comments and the order of keys and files change nothing. A secret's reference
is told as changed, never repeated.
"""

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Literal

import msgspec

from gateway.policy.document import Document, Entry
from gateway.policy.models import ArmSpec, LimitSpec, PriceSpec, RouteSpec, Spec

Prices = Mapping[str, Mapping[str, str]]
"""By target: what its tokens cost, each amount by its name; a target without a known price is left out."""

SECTIONS = ("routes", "targets", "pools", "keys", "sensitive", "budgets", "limits", "baseline", "money", "defaults",
            "prices")  # fmt: skip
_SECRET = frozenset(["secret", "api_key", "alert_webhook"])
_DURATIONS = frozenset(["connect", "first_token", "idle", "total", "interval", "ttl", "exact", "timeout"])
_SHARES = frozenset(["max_error", "confidence", "shadow", "max_quality_loss", "strong_share", "strong_cap_per_key",
                     "compare", "error_rate", "soft"])  # fmt: skip
_NAMED = _SECRET | {"scope"}
_UNSET = "not set"
_ANY = "any"


class Change(msgspec.Struct, frozen=True):
    """One thing that moves. `key` is empty where the whole entry is meant; `old` and `new` are as authors write them.

    `moved` is an order: `old` and `new` are then the routes asked before it that are or were not.
    """

    section: str
    name: str
    change: Literal["added", "removed", "changed", "moved", "renamed"]
    key: str = ""
    old: str | None = None
    new: str | None = None

    @property
    def words(self) -> str:
        """A line for people, without section and name."""
        if self.change == "added":
            return f"new: {self.new}" if self.new else "new"
        if self.change == "removed":
            return f"removed (was: {self.old})" if self.old else "removed"
        if self.change == "renamed":
            return f"renamed from {self.old}: budgets, certificates and reports go by the name"
        if self.change == "moved":
            said = [
                f"now asked before {self.new}" if self.new else "",
                f"now asked after {self.old}" if self.old else "",
            ]
            return "order: " + ", ".join(filter(None, said))
        key = f"{self.key}: " if self.key else ""
        return f"{key}{self.old} -> {self.new}"


def diff(
    old: Document, new: Document, old_prices: Prices | None = None, new_prices: Prices | None = None
) -> list[Change]:
    """Every change, by section (`SECTIONS`) and in the order of the new policy; empty when they mean the same.

    Prices are compared for targets that both have.
    """
    return [
        *_routes(old, new),
        *_entries("targets", _by_name(old.targets), _by_name(new.targets)),
        *_entries("pools", _by_name(old.pools), _by_name(new.pools)),
        *_entries("keys", _by_name(old.keys), _by_name(new.keys)),
        *_changed("sensitive", "", old.sensitive, new.sensitive),
        *_entries("budgets", _budgets(old), _budgets(new)),
        *_limits(old, new),
        *_value("baseline", old.baseline.name if old.baseline else None, new.baseline.name if new.baseline else None),
        *_changed("money", "", old.money, new.money),
        *_changed("defaults", "", old.default, new.default),
        *_prices(old_prices or {}, new_prices or {}),
    ]


def as_text(changes: Iterable[Change]) -> str:
    """Grouped by section, a line for each change; says so when there is none."""
    lines: list[str] = []
    section = ""
    for change in changes:
        if change.section != section:
            section = change.section
            lines.append(section)
        sign = {"added": "+", "removed": "-"}.get(change.change, "~")
        name = f"{change.name}: " if change.name else ""
        lines.append(f"  {sign} {name}{change.words}")
    return "\n".join(lines) + "\n" if lines else "the policies mean the same\n"


def as_json(changes: Iterable[Change]) -> bytes:
    """One object: `{"object": "policy.diff", "same": ..., "changes": [...]}`."""
    listed = list(changes)
    told = [{**msgspec.structs.asdict(change), "words": change.words} for change in listed]
    return msgspec.json.encode({"object": "policy.diff", "same": not listed, "changes": told}) + b"\n"


def _by_name(entries: Mapping[str, Entry[Any]]) -> dict[str, Spec]:
    return {name: entry.spec for name, entry in entries.items()}


def _budgets(document: Document) -> dict[str, Spec]:
    return {f"{entry.spec.scope}/{entry.spec.limit[1]}": entry.spec for entry in document.budgets}


def _routes(old: Document, new: Document) -> Iterator[Change]:
    before: dict[str, RouteSpec] = {entry.spec.name: entry.spec for entry in old.routes}
    after: dict[str, RouteSpec] = {entry.spec.name: entry.spec for entry in new.routes}
    renamed = _renamed(before, after)
    for name, spec in before.items():
        if name not in after and name not in renamed.values():
            yield Change("routes", name, "removed", old=_route_words(spec))
    for name, spec in after.items():
        if name in before:
            yield from _changed("routes", name, before[name], spec)
        elif name in renamed:
            yield Change("routes", name, "renamed", old=renamed[name], new=name)
        else:
            yield Change("routes", name, "added", new=_added(list(after), name, spec))
    back = {old_name: name for name, old_name in renamed.items()}
    yield from _moved([back.get(name, name) for name in before], list(after))


def _renamed(before: Mapping[str, RouteSpec], after: Mapping[str, RouteSpec]) -> dict[str, str]:
    """New names of routes that are what a removed one was, each removed one once."""
    gone = {name: spec for name, spec in before.items() if name not in after}
    found: dict[str, str] = {}
    for name, spec in after.items():
        if name in before:
            continue
        same = next((old for old, was in gone.items() if was.model_copy(update={"name": name}) == spec), None)
        if same is not None:
            del gone[same]
            found[name] = same
    return found


def _added(order: list[str], name: str, spec: RouteSpec) -> str:
    later = order[order.index(name) + 1 :]
    return _route_words(spec) + (f"; asked before {', '.join(later)}" if later else "")


def _moved(before: list[str], after: list[str]) -> Iterator[Change]:
    """The fewest routes whose moving makes one order of the other, among those that both have."""
    places = {name: index for index, name in enumerate(before)}
    common = [name for name in after if name in places]
    kept = _longest_rising([places[name] for name in common])
    for index, name in enumerate(common):
        if index in kept:
            continue
        passed = [other for other in common[index + 1 :] if places[other] < places[name]]
        behind = [other for other in common[:index] if places[other] > places[name]]
        yield Change("routes", name, "moved", old=", ".join(behind) or None, new=", ".join(passed) or None)


def _longest_rising(numbers: list[int]) -> set[int]:
    """Positions of one longest rising subsequence."""
    best: list[tuple[int, int]] = []
    for index, number in enumerate(numbers):
        length, before = max(((best[i][0], i) for i in range(index) if numbers[i] < number), default=(0, -1))
        best.append((length + 1, before))
    at = max(range(len(best)), key=lambda i: best[i][0], default=-1)
    found: set[int] = set()
    while at >= 0:
        found.add(at)
        at = best[at][1]
    return found


def _route_words(spec: RouteSpec) -> str:
    taken = [f"{key.removeprefix('match.')} {text}" for key, _, text in _pairs(None, spec.match, "match.")]
    return f"takes {'; '.join(taken) or 'everything'}; goes to {_goes_to(spec)}"


def _goes_to(spec: RouteSpec) -> str:
    if spec.split is not None:
        first = f"split of {_split(spec.split)}"
    elif spec.classify is not None:
        first = f"{spec.classify.weak} or {spec.classify.strong} by classification"
    else:
        first = spec.target or ""
    return ", then ".join([first, *spec.fallbacks])


def _entries(section: str, old: Mapping[str, Spec], new: Mapping[str, Spec]) -> Iterator[Change]:
    for name in old:
        if name not in new:
            yield Change(section, name, "removed")
    for name, spec in new.items():
        if name in old:
            yield from _changed(section, name, old[name], spec)
        else:
            told = [f"{key} {text}" for key, _, text in _pairs(None, spec, "") if key not in _NAMED]
            yield Change(section, name, "added", new="; ".join(told) or None)


def _changed(section: str, name: str, old: Spec, new: Spec) -> Iterator[Change]:
    for key, before, after in _pairs(old, new, ""):
        yield Change(section, name, "changed", key, before, after)


def _value(section: str, old: str | None, new: str | None) -> Iterator[Change]:
    if old != new:
        yield Change(section, "", "changed", "", old or _UNSET, new or _UNSET)


def _limits(old: Document, new: Document) -> Iterator[Change]:
    before, after = _limit_values(old), _limit_values(new)
    for scope, key in {**before, **after}:
        was, now = before.get((scope, key)), after.get((scope, key))
        if was is None:
            yield Change("limits", scope, "added", key, None, f"{key} {now}")
        elif now is None:
            yield Change("limits", scope, "removed", key, f"{key} {was}")
        elif was != now:
            yield Change("limits", scope, "changed", key, was, now)


def _limit_values(document: Document) -> dict[tuple[str, str], str]:
    kinds = [name for name in LimitSpec.model_fields if name != "scope"]
    return {
        (entry.spec.scope, kind): _text((kind,), value)
        for entry in document.limits
        for kind in kinds
        if (value := getattr(entry.spec, kind)) is not None
    }


def _prices(old: Prices, new: Prices) -> Iterator[Change]:
    for name in new:
        if name not in old:
            continue
        for key in {**old[name], **new[name]}:
            was, now = old[name].get(key), new[name].get(key)
            if was != now:
                yield Change("prices", name, "changed", key, was or _UNSET, now or _UNSET)


def _pairs(old: Spec | None, new: Spec | None, path: str) -> Iterator[tuple[str, str, str]]:
    """Key, old and new text of what differs. Of a part that only one side has: what is written there."""
    for name in type(new if new is not None else old).model_fields:  # type: ignore[union-attr]  # one of them is there
        if _unsaid(old, new, name) or _unsaid(new, old, name) or (not path and name == "name"):
            continue
        before, after = getattr(old, name, None), getattr(new, name, None)
        key = f"{path}{name}"
        if before == after:
            continue
        if _is_part(before) and _is_part(after):
            empty = [(key, _UNSET if before is None else "nothing", _UNSET if after is None else "nothing")]
            yield from list(_pairs(before, after, f"{key}.")) or empty
        else:
            yield key, *_both(_told(key, before), _told(key, after))


def _unsaid(side: Spec | None, other: Spec | None, name: str) -> bool:
    """A default of a part that the other side does not have at all."""
    return side is not None and other is None and name not in side.model_fields_set


def _is_part(value: Any) -> bool:
    return value is None or (isinstance(value, Spec) and not isinstance(value, PriceSpec))


def _both(old: str, new: str) -> tuple[str, str]:
    """What differs in a part that is not shown still differs."""
    return (old, new) if old != new else (old, f"{new}, but not the same")


def _told(key: str, value: Any) -> str:
    path = tuple(key.split("."))
    if path[-1] in _SECRET:
        return _UNSET if value is None else "a reference"
    if not value and isinstance(value, list | dict | None):
        return _ANY if path[0] == "match" else _UNSET
    return _text(path, value)


def _text(path: tuple[str, ...], value: Any) -> str:
    """A value as authors write it; `path` tells its unit."""
    name = path[-1]
    if isinstance(value, bool):
        return "true" if value else "false"
    if name == "split":
        return _split(value)
    if isinstance(value, PriceSpec):
        return ", ".join(f"{key} {amount(pico)}" for key, pico in value if pico is not None)
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], str):
        return f"{amount(value[0])}/{value[1]}"
    if isinstance(value, tuple):
        return "-".join(f"{minute // 60:02d}:{minute % 60:02d}" for minute in value)
    if isinstance(value, list):
        return ", ".join(_text(path, item) for item in value)
    if isinstance(value, dict):  # of headers the values may be anything
        return ", ".join(value if name == "headers" and path[0] == name else (f"{k}: {v}" for k, v in value.items()))
    return _scalar(path, value)


def _scalar(path: tuple[str, ...], value: Any) -> str:
    name = path[-1]
    if name in _DURATIONS:
        return _duration(value)
    if name in _SHARES or path[-2:] == ("retries", "budget"):
        return f"{Decimal(repr(value)) * 100:f}".rstrip("0").rstrip(".") + "%"
    if name == "unknown_price" and isinstance(value, int):
        return amount(value)
    if name == "target_cost":
        return f"{amount(value)}/1k"
    if path in (("requests",), ("tokens",)):
        return f"{value}/min"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _split(arms: list[ArmSpec]) -> str:
    whole = sum(arm.weight for arm in arms) or 1
    sticky = ", sticky" if any(arm.sticky for arm in arms) else ""
    return ", ".join(f"{arm.target} {100 * arm.weight / whole:.4g}%" for arm in arms) + sticky


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds * 1000:g}ms"


def amount(millionths: int) -> str:
    """Dollars of micro-USD, or of pico-USD per token for a million of them: `$2`, `$0.15`."""
    text = f"{Decimal(millionths) / 1_000_000:f}"
    whole, _, rest = text.partition(".")
    return f"${whole}.{rest:0<2}" if rest else f"${whole}"
