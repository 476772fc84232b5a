"""Decides whether a request's fields are what OpenAI accepts, and says it in OpenAI's words."""

from typing import Any

from gateway.core.errors import BadRequest

_KINDS = {
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def kind(value: Any) -> str:
    """The JSON type of `value` with its article."""
    return "null" if value is None else _KINDS.get(type(value), "another type")


def wrong_type(param: str, expected: str, value: Any) -> BadRequest:
    """400 `invalid_type`."""
    message = f"Invalid type for '{param}': expected {expected}, but got {kind(value)} instead."
    return BadRequest(message, param=param, code="invalid_type")


def missing(param: str) -> BadRequest:
    """400 `missing_required_parameter`."""
    return BadRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


def _bounded(param: str, noun: str, value: float, low: float, high: float) -> None:
    if value < low:
        message = f"Invalid '{param}': {noun} below minimum value. Expected a value >= {low}, but got {value} instead."
        raise BadRequest(message, param=param, code=f"{noun}_below_min_value")
    if value > high:
        message = f"Invalid '{param}': {noun} above maximum value. Expected a value <= {high}, but got {value} instead."
        raise BadRequest(message, param=param, code=f"{noun}_above_max_value")


def integer(doc: dict[str, Any], param: str, low: int, high: int) -> int | None:
    """The integer field, `None` when absent or null; raises `BadRequest`."""
    value = doc.get(param)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(param, "an integer", value)
    _bounded(param, "integer", value, low, high)
    return value


def decimal(doc: dict[str, Any], param: str, low: float, high: float) -> float | None:
    """The number field, `None` when absent or null; raises `BadRequest`."""
    value = doc.get(param)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(param, "a decimal", value)
    _bounded(param, "decimal", value, low, high)
    return value


def flag(doc: dict[str, Any], param: str, default: bool = False) -> bool:
    """The boolean field, `default` when absent or null; raises `BadRequest`."""
    value = doc.get(param)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise wrong_type(param, "a boolean", value)
    return value


def obj(doc: dict[str, Any], param: str) -> dict[str, Any]:
    """The object field, empty when absent or null; raises `BadRequest`."""
    value = doc.get(param)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong_type(param, "an object", value)
    return value


def stops(doc: dict[str, Any]) -> list[str]:
    """Up to four stop sequences, empty ones dropped; raises `BadRequest`."""
    value = doc.get("stop")
    if value is None:
        return []
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise wrong_type("stop", "a string or an array of strings", value)
    if len(found) > 4:
        message = f"Expected an array with maximum length 4, but got an array with length {len(found)} instead."
        raise BadRequest(f"Invalid 'stop': array too long. {message}", param="stop", code="array_above_max_length")
    return [item for item in found if item]


def sampling(doc: dict[str, Any]) -> None:
    """Checks the sampling parameters, which a simulation does not use; raises `BadRequest`."""
    decimal(doc, "temperature", 0, 2)
    decimal(doc, "top_p", 0, 1)
    decimal(doc, "presence_penalty", -2, 2)
    decimal(doc, "frequency_penalty", -2, 2)
    integer(doc, "seed", -(2**63), 2**63 - 1)
    if doc.get("stream_options") is not None and not flag(doc, "stream"):
        raise BadRequest(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    flag(obj(doc, "stream_options"), "include_usage")


def wants_usage(doc: dict[str, Any]) -> bool:
    """Whether the stream ends with a usage chunk."""
    return flag(obj(doc, "stream_options"), "include_usage")
