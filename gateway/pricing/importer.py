"""Rows of the price book from LiteLLM's public price map (MIT), and what differs between two books. Pure.

Only token prices of the chosen providers and modes are taken. A row that the map no longer has is kept and ends on
the day of the import, so that old requests can still be priced as they were.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from gateway.pricing.book import Document, Row

PROVIDERS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "gemini": "google",
    "mistral": "mistral",
    "deepseek": "deepseek",
    "xai": "xai",
    "cohere": "cohere",
    "cohere_chat": "cohere",
    "groq": "groq",
}
"""The map's provider names and the book's."""
MODES = ("chat", "completion", "responses", "embedding")
_FIELDS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached_read": "cache_read_input_token_cost",
    "cache_write_5m": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "reasoning": "output_cost_per_reasoning_token",
}
_TIERS_K = (128, 200, 256, 272, 512)


def rows_from_litellm(price_map: Mapping[str, Any]) -> dict[str, dict[str, Row]]:
    """By provider and model, a row for every priced row of `PROVIDERS` and `MODES`, by name."""
    found: dict[str, dict[str, Row]] = {}
    for key, entry in price_map.items():
        provider = PROVIDERS.get(entry.get("litellm_provider", ""))
        if provider is None or entry.get("mode") not in MODES or entry.get("input_cost_per_token") is None:
            continue
        model = key.split("/", 1)[1] if key.split("/", 1)[0] in PROVIDERS and "/" in key else key
        if model.startswith("ft:"):
            continue
        found.setdefault(provider, {})[model] = _row(entry)
    return {provider: dict(sorted(models.items())) for provider, models in sorted(found.items())}


def _row(entry: Mapping[str, Any]) -> Row:
    prices = {name: _per_million(entry.get(field)) for name, field in _FIELDS.items()}
    if prices["reasoning"] == prices["output"]:
        prices["reasoning"] = None
    zero = not any(value not in (None, "0") for value in prices.values())
    given: dict[str, Any] = {} if zero else prices
    return Row(
        **given,
        batch_input=_per_million(entry.get("input_cost_per_token_batches")),
        batch_output=_per_million(entry.get("output_cost_per_token_batches")),
        tiers=list(_tiers(entry)),
        free=zero,
        mode=entry["mode"],
        max_input_tokens=_whole(entry.get("max_input_tokens")),
        max_output_tokens=_whole(entry.get("max_output_tokens")),
        deprecated=entry.get("deprecation_date"),
        source=entry.get("source"),
    )


def _tiers(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for thousands in _TIERS_K:
        suffix = f"_above_{thousands}k_tokens"
        prices = {name: _per_million(entry.get(field + suffix)) for name, field in _FIELDS.items()}
        given = {name: price for name, price in prices.items() if price is not None}
        if given:
            yield {"above": thousands * 1000, **given}


def _per_million(per_token: Any) -> str | None:
    """USD per token as USD per million, a plain decimal string with at most six places."""
    if not isinstance(per_token, int | float | str):
        return None
    value = (Decimal(str(per_token)) * 1_000_000).quantize(Decimal("0.000001")).normalize()
    return format(value, "f")


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def merge(
    old: Mapping[str, Mapping[str, Row | list[Row]]], new: Mapping[str, Mapping[str, Row]], on: str
) -> dict[str, dict[str, Row | list[Row]]]:
    """`new` over `old`: what vanished ends `on` that day, what changed keeps its old row until then."""
    merged: dict[str, dict[str, Row | list[Row]]] = {}
    for provider in sorted({*old, *new}):
        was, now = old.get(provider, {}), new.get(provider, {})
        models: dict[str, Row | list[Row]] = {}
        for model in sorted({*was, *now}):
            history = _history(was.get(model), now.get(model), on)
            models[model] = history[0] if len(history) == 1 else history
        merged[provider] = models
    return merged


def _history(was: Row | list[Row] | None, now: Row | None, on: str) -> list[Row]:
    before = was if isinstance(was, list) else [was] if was is not None else []
    if not before:
        return [now] if now is not None else []
    *past, last = before
    if now is not None and _prices(last) == _prices(now):
        return [*past, _changed(now, valid_from=last.valid_from)]
    ended = last if last.valid_to else _changed(last, valid_to=on)
    return [*past, ended] if now is None else [*past, ended, _changed(now, valid_from=on)]


def _changed(row: Row, **changes: Any) -> Row:
    return Row(**{name: getattr(row, name) for name in row.__struct_fields__} | changes)


def _prices(row: Row) -> tuple[Any, ...]:
    return (*(getattr(row, name) for name in _FIELDS), row.batch_input, row.batch_output, row.tiers, row.free)


def differences(old: Document, new: Document) -> list[tuple[str, str, str]]:
    """(model, what, detail) for every row that was added, removed or changed, by name."""
    was, now = dict(_current(old)), dict(_current(new))
    found = [(name, "added", _shown(now[name])) for name in now.keys() - was.keys()]
    found += [(name, "removed", _shown(was[name])) for name in was.keys() - now.keys()]
    for name in was.keys() & now.keys():
        changes = [
            _change(field, getattr(was[name], field), getattr(now[name], field))
            for field in (*_FIELDS, "batch_input", "batch_output", "tiers", "deprecated")
            if getattr(was[name], field) != getattr(now[name], field)
        ]
        if changes:
            found.append((name, "changed", ", ".join(changes)))
    return sorted(found)


def _current(document: Document) -> Iterator[tuple[str, Row]]:
    for provider, models in document.prices.items():
        for model, entry in models.items():
            rows: Sequence[Row] = entry if isinstance(entry, list) else [entry]
            if rows[-1].valid_to is None:
                yield f"{provider}/{model}", rows[-1]


def _shown(row: Row) -> str:
    return "free" if row.free else f"input {row.input}, output {row.output}"


def _change(field: str, was: Any, now: Any) -> str:
    try:
        percent = (Decimal(now) / Decimal(was) - 1) * 100
    except (ArithmeticError, TypeError, ValueError):
        return f"{field} {was} -> {now}"
    return f"{field} {was} -> {now} ({percent:+.0f} %)"
