"""Reads the pages that the usage and cost APIs of OpenAI and Anthropic answer with, as rows of their CSV exports.

Pure. The same figures come as a file from a console and as JSON from an API; only the wrapping differs, so a page is
unwrapped into rows under the export's column names and read like them. Sources: the API references of
platform.openai.com (`/v1/organization/usage/completions`, `/v1/organization/costs`) and of platform.claude.com
(`/v1/organizations/usage_report/messages`, `/v1/organizations/cost_report`).
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

from gateway.core.errors import BadRequest

_FIX = (
    "fix: what the usage or cost API of OpenAI or Anthropic answers (an object with `data`), or a list of its pages, "
    "or a CSV export"
)


class _Bucket(msgspec.Struct):
    """Of one period; OpenAI's has a `start_time` in Unix seconds, Anthropic's a `starting_at` in ISO 8601."""

    results: list[dict[str, Any]]
    start_time: int | None = None
    starting_at: str | None = None


class _Page(msgspec.Struct):
    data: list[_Bucket]
    has_more: bool = False


def rows(text: str) -> list[dict[str, str]]:
    """The rows in a page or a list of pages, at least one, all with the same columns.

    Raises `BadRequest` for other JSON, for usage and costs in one list, and where a page is missing.
    """
    try:
        read = msgspec.json.decode(text, type=_Page | list[_Page])
    except msgspec.DecodeError as exc:
        raise BadRequest(f"not an invoice: {exc}; {_FIX}") from exc
    pages = read if isinstance(read, list) else [read]
    if pages and pages[-1].has_more:
        raise BadRequest("the last page says that more follow; fix: put all of them into one JSON list (`jq -s .`)")
    found = [row for page in pages for bucket in page.data for row in _bucket(bucket)]
    if not found:
        raise BadRequest("no usage and no cost in any of its periods; fix: another period")
    if any(row.keys() != found[0].keys() for row in found):
        raise BadRequest("usage and costs in one list; fix: compare them one after the other")
    return found


def _bucket(bucket: _Bucket) -> Iterator[dict[str, str]]:
    for result in bucket.results:
        if bucket.start_time is not None:
            row = _openai(result) | {"start_time": bucket.start_time}
        elif bucket.starting_at is not None:
            row = _anthropic(result) | {"usage_date_utc": bucket.starting_at}
        else:
            raise BadRequest(f"a period without `start_time` or `starting_at`; {_FIX}")
        yield {name: "" if value is None else str(value) for name, value in row.items()}


def _openai(result: dict[str, Any]) -> dict[str, Any]:
    """Usage has the names of the export; of what is no completion (embeddings, images) only some of them."""
    if isinstance(amount := result.get("amount"), dict):
        return {
            "amount_value": amount.get("value"),
            "amount_currency": amount.get("currency"),
            "line_item": result.get("line_item"),
        }
    names = ("model", "input_tokens", "output_tokens", "num_model_requests")
    return {name: result.get(name) for name in names}


def _anthropic(result: dict[str, Any]) -> dict[str, Any]:
    """A cost is a decimal number of cents; its model is told when it is grouped by description."""
    if "amount" in result:
        if (currency := result.get("currency", "USD")) != "USD":
            raise BadRequest(f"an amount in {currency}; fix: a report in USD")
        return {
            "model": result.get("model") or result.get("description"),
            "cost_usd": _dollars(result["amount"]),
        }
    written = result.get("cache_creation") or {}
    return {
        "model_version": result.get("model"),
        "usage_input_tokens_no_cache": result.get("uncached_input_tokens"),
        "usage_input_tokens_cache_read": result.get("cache_read_input_tokens"),
        "usage_input_tokens_cache_write_5m": written.get("ephemeral_5m_input_tokens"),
        "usage_input_tokens_cache_write_1h": written.get("ephemeral_1h_input_tokens"),
        "usage_output_tokens": result.get("output_tokens"),
    }


def _dollars(cents: Any) -> Decimal:
    try:
        return Decimal(str(cents)) / 100
    except ArithmeticError:
        raise BadRequest(f"{cents!r} is no amount") from None
