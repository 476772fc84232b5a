"""A validation error of pydantic in the words of a policy's author: the key's path, what is wrong, the fix. Pure."""

from typing import Any, get_args

from pydantic import BaseModel

from gateway.policy.models import Spec
from gateway.policy.problems import Path, Problem, did_you_mean
from gateway.policy.source import Source

_TYPES = {
    "string_type": ("not a text", "write a text; put quotes around a number or true/false"),
    "bool_type": ("not true or false", "write true or false"),
    "int_type": ("not a whole number", "write a whole number"),
    "int_from_float": ("not a whole number", "write a whole number"),
    "float_type": ("not a number", "write a number without quotes"),
    "finite_number": ("not a number", "write a finite number"),
    "list_type": ("not a list", "write it in brackets: [a, b]"),
    "dict_type": ("not a mapping", "write it in braces: {key: value}"),
    "model_type": ("not a mapping", "write it in braces: {key: value}"),
    "model_attributes_type": ("not a mapping", "write it in braces: {key: value}"),
    "too_short": ("empty", "name at least one, or remove the key"),
    "string_pattern_mismatch": ("not a path", "write a path that begins with /, such as /health"),
}


def explain(error: dict[str, Any], model: type[Spec], raw: Any, prefix: Path, source: Source) -> Problem | None:
    """The problem that one of `ValidationError.errors()` tells of; `None` where the source has told it already.

    Values are repeated only by the parsers of `units`, which know what may hold a secret.
    """
    kind = error["type"]
    path = _path(error["loc"], raw, missing=kind == "missing")
    if not source.usable((*prefix, *path)):
        return None
    message, fix = _words(kind, error.get("ctx", {}), error["loc"], model, error.get("input"))
    return source.problem((*prefix, *path), message, fix)


def _path(loc: tuple[Any, ...], raw: Any, *, missing: bool) -> Path:
    """`loc` without the parts that are not in the data: union tags and key markers."""
    path: list[str | int] = []
    for position, part in enumerate(loc):
        inside = (isinstance(raw, dict) and part in raw) or (
            isinstance(raw, list) and isinstance(part, int) and part < len(raw)
        )
        if inside:
            path.append(part)
            raw = raw[part]
        elif missing and position == len(loc) - 1:
            path.append(part)
    return tuple(path)


def _words(kind: str, context: dict[str, Any], loc: Path, model: type[Spec], value: Any) -> tuple[str, str]:
    if kind == "policy":
        return context["message"], context["fix"]
    if kind == "extra_forbidden":
        return "unknown key", did_you_mean(str(loc[-1]), _fields(model, loc[:-1]))
    if kind == "missing":
        return "missing", f"add `{loc[-1]}: ...`"
    if kind == "literal_error":
        expected = [text.strip("'") for text in context["expected"].replace(" or ", ", ").split(", ")]
        word = value if isinstance(value, str) else ""
        return "not a known value", did_you_mean(word, expected)
    if kind in ("greater_than_equal", "less_than_equal", "greater_than", "less_than"):
        sign = {"ge": "at least", "le": "at most", "gt": "above", "lt": "below"}
        limit = next((f"{words} {context[name]:g}" for name, words in sign.items() if name in context), "in range")
        return "out of range", f"write a number {limit}"
    return _TYPES.get(kind, (f"not valid ({kind.replace('_', ' ')})", "see the policy reference"))


def _fields(model: type[Spec], loc: Path) -> list[str]:
    """The keys that are known at `loc`."""
    here: type[BaseModel] = model
    for part in loc:
        known = here.model_fields.get(part) if isinstance(part, str) else None
        inner = _inner(known.annotation) if known else None
        here = inner or here
    return list(here.model_fields)


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The model inside `list[M]`, `dict[str, M]`, `M | None` or `Annotated`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _inner(argument)
        if found is not None:
            return found
    return None
