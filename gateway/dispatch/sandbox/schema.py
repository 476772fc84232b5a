"""Builds one JSON value that satisfies a JSON schema, with what a question offers; never validates one.

Covers what structured outputs and tool parameters use (JSON Schema 2020-12): types, enum, const, $ref, allOf,
anyOf, oneOf, properties, required, arrays with bounds, string lengths, formats, simple patterns, numeric bounds.
`not`, `if` and `oneOf` exclusivity are ignored.
"""

import math
import re
from typing import Any

from gateway.dispatch.sandbox.pattern import example

_QUOTED = re.compile(r"\"([^\"\n]{1,200})\"|(?<!\w)'([^'\n]{1,200})'(?!\w)|“([^”\n]{1,200})”")
_NUMBER = re.compile(r"(?<![\w.])-?\d{1,15}(?:\.\d{1,9})?(?![\w.]*\w)")
_DEPTH = 6
_MANY, _TOO_MANY = 300, 2000
_ITEMS = 64
_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "PT1S",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def quoted(text: str) -> list[str]:
    """What stands in quotation marks in `text`, in order."""
    return [next(part for part in match if part) for match in _QUOTED.findall(text)]


def instance(schema: Any, question: str = "") -> Any:
    """A JSON value valid under `schema`; strings and numbers come from `question`, in order, where they fit."""
    return _Builder(schema, question).build(schema, "value", 0)


class _Builder:
    """One pass over a schema; quoted texts and numbers of the question are each used once."""

    def __init__(self, root: Any, question: str) -> None:
        self._root = root
        self._question = question.lower()
        self._made = 0
        self._strings = quoted(question)
        self._numbers = [float(found) for found in _NUMBER.findall(question)]

    def build(self, schema: Any, name: str, depth: int) -> Any:
        """The value at `depth`; past `_DEPTH` only what must be there, past twice that nothing."""
        self._made += 1
        if self._made > _MANY:  # a wide recursive type would grow without bound
            depth = max(depth, 2 * _DEPTH if self._made > _TOO_MANY else _DEPTH)
        schema = self._resolved(schema, depth)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._mentioned(schema["enum"])
        kind = self._type(schema, depth)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind == "string":
            return self._string(schema, name)
        if kind in ("integer", "number"):
            return self._number(schema, whole=kind == "integer")
        return True if kind == "boolean" else None

    def _resolved(self, schema: Any, depth: int) -> dict[str, Any]:
        """`schema` with references followed and allOf, anyOf and oneOf folded into one object."""
        if not isinstance(schema, dict):
            return {}
        for _ in range(_ITEMS):
            reference = schema.get("$ref")
            if not isinstance(reference, str):
                break
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            schema = _merged(self._target(reference), rest)
        for part in schema.get("allOf") or []:
            schema = _merged(schema, self._resolved(part, depth + 1) if depth < _DEPTH else {})
        branches = schema.get("anyOf") or schema.get("oneOf")
        if branches:
            rest = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf")}
            if depth >= _DEPTH:  # a recursive type ends at the branch that does not recurse
                branches = sorted(branches, key=lambda branch: len(str(branch)))
            schema = _merged(rest, self._resolved(branches[0], depth + 1) if depth < 2 * _DEPTH else {})
        return dict(schema)

    def _target(self, reference: str) -> dict[str, Any]:
        """The schema that `#/...` points to; an unknown or remote one is the schema that allows anything."""
        node = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            node = node.get(key) if isinstance(node, dict) else None
        return node if isinstance(node, dict) and reference.startswith("#") else {}

    def _mentioned(self, options: list[Any]) -> Any:
        """The option that the question names, else the first."""
        named = [item for item in options if isinstance(item, str) and item and item.lower() in self._question]
        return max(named, key=len) if named else options[0]

    def _type(self, schema: dict[str, Any], depth: int) -> str:
        kinds = schema.get("type")
        if isinstance(kinds, list) and kinds:
            if depth >= _DEPTH and "null" in kinds:
                return "null"
            kinds = next((kind for kind in kinds if kind != "null"), "null")
        if isinstance(kinds, str):
            return kinds
        if "properties" in schema or "required" in schema:
            return "object"
        if "items" in schema or "prefixItems" in schema:
            return "array"
        if schema.keys() & {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}:
            return "number"
        return "string"

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = [key for key in schema.get("required") or [] if isinstance(key, str)]
        names = required if depth >= _DEPTH else list(dict.fromkeys([*properties, *required]))
        if depth >= 2 * _DEPTH:
            names = []
        extra = schema.get("additionalProperties")
        default = extra if isinstance(extra, dict) else {}
        out = {name: self.build(properties.get(name, default), name, depth + 1) for name in names}
        for k in range(min(int(schema.get("minProperties") or 0) - len(out), _ITEMS)):
            out[f"key_{k}"] = self.build(default, f"key_{k}", depth + 1)
        return out

    def _array(self, schema: dict[str, Any], name: str, depth: int) -> list[Any]:
        low, high = int(schema.get("minItems") or 0), schema.get("maxItems")
        wanted = max(low, 1 if depth < _DEPTH else 0)
        size = min(wanted, _ITEMS) if high is None else min(wanted, _ITEMS, int(high))
        prefix = schema.get("prefixItems") or []
        items = schema.get("items", schema.get("contains"))
        if items is False:
            size = min(size, len(prefix))
        if high is None:
            size = max(size, len(prefix))
        if depth >= 2 * _DEPTH:
            size = 0
        unique = bool(schema.get("uniqueItems"))
        out: list[Any] = []
        for k in range(size):
            rule = prefix[k] if k < len(prefix) else items
            out.append(self._distinct(rule, k, out) if unique else self.build(rule, name, depth + 1))
        return out

    def _distinct(self, rule: Any, k: int, taken: list[Any]) -> Any:
        """A value that differs from those in `taken`, where the item's schema makes one easy to find."""
        rule = self._resolved(rule, _DEPTH)
        free = [item for item in rule.get("enum") or [] if item not in taken]
        if free:
            return free[0]
        value = self.build(rule, "item", _DEPTH)
        if value not in taken:
            return value
        if isinstance(value, str):
            return f"{value[: len(value) - len(str(k))]}{k}" if "maxLength" in rule else f"{value} {k}"
        return value + k * (rule.get("multipleOf") or 1) if isinstance(value, int | float) else value

    def _string(self, schema: dict[str, Any], name: str) -> str:
        if isinstance(schema.get("pattern"), str):
            return example(schema["pattern"], int(schema.get("minLength") or 0))
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        low, high = int(schema.get("minLength") or 0), schema.get("maxLength")
        for k, found in enumerate(self._strings):
            if len(found) >= low and (high is None or len(found) <= high):
                return self._strings.pop(k)
        text = f"simulated {name}"
        text += "." * max(0, min(low, 10_000) - len(text))
        return text if high is None else text[: int(high)]

    def _number(self, schema: dict[str, Any], *, whole: bool) -> int | float:
        low, high = _bounds(schema, whole=whole)
        step = schema.get("multipleOf") or (1 if whole else 0)
        for k, found in enumerate(self._numbers):
            if low <= found <= high and (not step or found % step == 0):
                self._numbers.pop(k)
                return int(found) if found.is_integer() else found
        value = low if low > -math.inf else min(high, 1.0)
        if low <= 1 <= high:
            value = 1.0
        if step:
            above = math.ceil(value / step) * step
            value = above if above <= high else math.floor(value / step) * step
        return int(value) if float(value).is_integer() else value


def _bounds(schema: dict[str, Any], *, whole: bool) -> tuple[float, float]:
    """The closed interval that the four bounds leave; an open end moves in by 1, or a quarter if narrow."""
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    open_low, open_high = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    width = min(high, open_high) - max(low, open_low)
    gap = 1.0 if whole or not 0 < width <= 2 else width / 4
    if open_low >= low and open_low > -math.inf:
        low = math.floor(open_low) + 1 if whole else open_low + gap
    if open_high <= high and open_high < math.inf:
        high = math.ceil(open_high) - 1 if whole else open_high - gap
    return low, high


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Both schemas at once: properties and required are united, other keywords of `second` win."""
    out = {**first, **second}
    if "properties" in first and "properties" in second:
        out["properties"] = {**first["properties"], **second["properties"]}
    if "required" in first and "required" in second:
        out["required"] = list(dict.fromkeys([*first["required"], *second["required"]]))
    return out
