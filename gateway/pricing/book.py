"""The price book: what a provider's tokens cost on a day. Rows are facts with a source; an absent row is unknown.

Prices are USD per million tokens in the file and integer pico-USD per token here, so every product is exact and the
only rounding is one per component of a cost. A price is never guessed: no fuzzy names, no zero for unknown.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import msgspec
import yaml

from gateway.core.errors import PolicyError
from gateway.core.exchange import Usage
from gateway.core.money import PICO_PER_MICRO, cost_micro_usd

VERSION = 1
_HALF = PICO_PER_MICRO // 2
_HALVES = 5 * _HALF
"""`ModelPrice.cost` rounds each of five components half up."""


class Cost(msgspec.Struct, frozen=True, gc=False):
    """Micro-USD by component; `total` is their sum. Reasoning tokens are in `output` unless priced apart."""

    input: int
    cache_read: int
    cache_write: int
    output: int
    reasoning: int
    request: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.input + self.cache_read + self.cache_write + self.output + self.reasoning + self.request


class Tier(msgspec.Struct, frozen=True, gc=False):
    """Pico-USD per token for prompts of more than `above` tokens (all input classes together).

    `None` means: cached and written tokens cost what uncached input costs, reasoning what output costs.
    """

    input: int
    output: int
    cached_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    above: int = 0


class ModelPrice(msgspec.Struct, frozen=True):
    """One model's price on a day: `tiers` by rising `above`, the first at 0; `request` in micro-USD per request.

    `max_input_tokens` and `max_output_tokens` are what the model takes and gives at most, `None` where nobody says.
    """

    tiers: tuple[Tier, ...]
    batch: Tier | None = None
    request: int = 0
    simulated: bool = False
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None

    _dearest: tuple[int, int] | None = None
    """What `_dearest` says of a single tier, which is all that most models have."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "_dearest", _dearest(self.tiers, 0) if len(self.tiers) == 1 else None)

    def at_most(self, tokens_in: int, tokens_out: int) -> int:
        """Micro-USD that no bill of so many tokens passes, however they fall into classes and tiers."""
        price_in, price_out = self._dearest or _dearest(self.tiers, tokens_in)
        pico = tokens_in * price_in + tokens_out * price_out
        return ((pico + _HALVES) // PICO_PER_MICRO if pico else 0) + self.request

    def _tier(self, usage: Usage, *, batch: bool) -> Tier:
        if batch and self.batch is not None:
            return self.batch
        tiers = self.tiers
        tier = tiers[0]
        if len(tiers) > 1:
            prompt = usage.input
            for candidate in tiers:
                if prompt > candidate.above:
                    tier = candidate
        return tier

    def cost(self, usage: Usage, *, batch: bool = False) -> Cost:
        """The cost of `usage`, each component rounded half up once."""
        tier = self._tier(usage, batch=batch)
        apart = tier.reasoning is not None
        write_5m = tier.input if tier.cache_write_5m is None else tier.cache_write_5m
        write_1h = write_5m if tier.cache_write_1h is None else tier.cache_write_1h
        written = usage.cache_write_5m * write_5m + usage.cache_write_1h * write_1h
        return Cost(
            input=cost_micro_usd(usage.uncached_input, tier.input),
            cache_read=cost_micro_usd(usage.cache_read, tier.input if tier.cached_read is None else tier.cached_read),
            cache_write=(written + _HALF) // PICO_PER_MICRO,
            output=cost_micro_usd(usage.output - usage.reasoning if apart else usage.output, tier.output),
            reasoning=cost_micro_usd(usage.reasoning, tier.reasoning or 0) if apart else 0,
            request=self.request,
        )

    def cost_total(self, usage: Usage) -> int:
        """`cost(usage).total`; the common case of one tier and nothing written to a cache is computed at once."""
        tier = self.tiers[0]
        if self._dearest is None or tier.reasoning is not None or usage.cache_write_5m or usage.cache_write_1h:
            return self.cost(usage).total
        total = (
            (usage.uncached_input * tier.input + _HALF) // PICO_PER_MICRO
            + (usage.output * tier.output + _HALF) // PICO_PER_MICRO
            + self.request
        )
        if usage.cache_read:
            total += cost_micro_usd(usage.cache_read, tier.input if tier.cached_read is None else tier.cached_read)
        return total


def _dearest(tiers: Sequence[Tier], tokens: int) -> tuple[int, int]:
    """The highest prices of input and of output over the tiers that `tokens` of input can reach, pico-USD."""
    dear_in = dear_out = 0
    for tier in tiers:
        if tier.above and tokens <= tier.above:
            continue
        dear_in = max(dear_in, tier.input, tier.cached_read or 0, tier.cache_write_5m or 0, tier.cache_write_1h or 0)
        dear_out = max(dear_out, tier.output, tier.reasoning or 0)
    return dear_in, dear_out


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A row of prices.yaml. Prices are decimal strings, USD per million tokens; `request` is USD per request.

    `free: true` is the only way to say zero. `valid_from` and `valid_to` (exclusive) bound the days it holds for.
    """

    input: str | None = None
    output: str | None = None
    cached_read: str | None = None
    cache_write_5m: str | None = None
    cache_write_1h: str | None = None
    reasoning: str | None = None
    batch_input: str | None = None
    batch_output: str | None = None
    tiers: list[dict[str, Any]] = []
    request: str | None = None
    free: bool = False
    mode: str | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    deprecated: str | None = None
    valid_from: str | None = None
    valid_to: str | None = None
    aliases: list[str] = []
    source: str | None = None


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """prices.yaml: provider -> model -> one row, or several with different validity."""

    version: int
    snapshot: str
    source: str
    licence: str
    prices: dict[str, dict[str, Row | list[Row]]]


class _Dated(msgspec.Struct, frozen=True):
    since: date
    until: date
    price: ModelPrice


class PriceBook:
    """Prices by provider, model and day."""

    def __init__(self, rows: Mapping[tuple[str, str], list[_Dated]], snapshot: str) -> None:
        self._rows = rows
        self.snapshot = snapshot

    def __len__(self) -> int:
        """How many (provider, model) names have a price."""
        return len(self._rows)

    def price(self, provider: str, model: str, on: date) -> ModelPrice | None:
        """The price of exactly this model (or a listed alias) on that day; `None` is unknown."""
        for dated in self._rows.get((provider, model), ()):
            if dated.since <= on < dated.until:
                return dated.price
        return None


def pico_per_token(usd_per_million: str) -> int:
    """A decimal string in USD per million tokens as integer pico-USD per token; raises `ValueError` if inexact."""
    try:
        value = Decimal(usd_per_million) * 1_000_000
    except InvalidOperation as exc:
        raise ValueError(f"{usd_per_million!r} is not a decimal number") from exc
    if value < 0 or value != value.to_integral_value():
        raise ValueError(f"{usd_per_million!r} is negative or finer than 0.000001 USD per million tokens")
    return int(value)


def read_document(path: Path) -> Document:
    """The file's rows as written; raises `PolicyError` naming the file and what is wrong."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        raw = yaml.load(path.read_bytes(), Loader=loader)  # noqa: S506 - one of the two safe loaders
        document = msgspec.convert(_texts(raw), Document)
    except OSError as exc:
        raise PolicyError(f"{path}: cannot be read ({exc.strerror}); fix: name a price book") from exc
    except yaml.YAMLError as exc:
        what = " ".join(str(exc).split())
        raise PolicyError(f"{path}: not YAML: {what}; fix: see docs/cost-model.md") from exc
    except msgspec.ValidationError as exc:
        raise PolicyError(f"{path}: {exc}; fix: see docs/cost-model.md for the fields of a row") from exc
    if document.version != VERSION:
        raise PolicyError(f"{path}: version {document.version} is not known; fix: use version {VERSION}")
    return document


def _texts(value: Any) -> Any:
    """Dates and bare numbers of prices as text, so that 0.10 is a decimal and not a float."""
    if isinstance(value, dict):
        return {str(k): _number_text(k, _texts(v)) for k, v in value.items()}
    if isinstance(value, list):
        return [_texts(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value


def _number_text(key: object, value: Any) -> Any:
    whole = ("version", "above", "max_input_tokens", "max_output_tokens")
    if isinstance(value, int | float) and not isinstance(value, bool) and key not in whole:
        return str(value)
    return value


def load_book(path: Path) -> PriceBook:
    """The price book of a file; raises `PolicyError` naming file, row and field."""
    document = read_document(path)
    rows: dict[tuple[str, str], list[_Dated]] = {}
    for provider, models in document.prices.items():
        for model, entry in models.items():
            for row in entry if isinstance(entry, list) else [entry]:
                try:
                    dated = _compile(row)
                except ValueError as exc:
                    raise PolicyError(f"{path}: prices.{provider}.{model}: {exc}") from exc
                for name in (model, *row.aliases):
                    rows.setdefault((provider, name), []).append(dated)
    return PriceBook(rows, document.snapshot)


def _compile(row: Row) -> _Dated:
    since = date.fromisoformat(row.valid_from) if row.valid_from else date.min
    until = date.fromisoformat(row.valid_to) if row.valid_to else date.max
    if until <= since:
        raise ValueError("valid_to is not after valid_from")
    if not row.free and row.input is None and row.output is None and row.request is None:
        raise ValueError("no price; fix: give input and output, or `free: true` if it costs nothing")
    first = _tier(msgspec.to_builtins(row), 0, None)
    tiers = [first]
    for extra in sorted(row.tiers, key=lambda tier: int(tier["above"])):
        tiers.append(_tier(extra, int(extra["above"]), tiers[-1]))
    batch = None
    if row.batch_input is not None or row.batch_output is not None:
        prices = {"input": row.batch_input or row.input, "output": row.batch_output or row.output}
        batch = _tier(prices, 0, None)
    request = int(Decimal(row.request) * 1_000_000) if row.request else 0
    price = ModelPrice(
        tuple(tiers),
        batch,
        request,
        max_input_tokens=row.max_input_tokens,
        max_output_tokens=row.max_output_tokens,
    )
    return _Dated(since, until, price)


def _tier(prices: Mapping[str, Any], above: int, base: Tier | None) -> Tier:
    """A tier from a mapping of decimal strings; what an upper tier leaves out is as in the one below."""

    def pico(name: str) -> int | None:
        text = prices.get(name)
        if text is None:
            return getattr(base, name) if base is not None else None
        return pico_per_token(str(text))

    return Tier(
        input=pico("input") or 0,
        output=pico("output") or 0,
        cached_read=pico("cached_read"),
        cache_write_5m=pico("cache_write_5m"),
        cache_write_1h=pico("cache_write_1h"),
        reasoning=pico("reasoning"),
        above=above,
    )
