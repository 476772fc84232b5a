"""How values are written in a policy: durations, percentages, money, rates, URLs, names, secret references.

Pure text, but for names of time zones, which the system's own tables know.
"""

import math
import re
import zoneinfo
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

DURATION = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$"
PERCENTAGE = r"^[0-9]+(\.[0-9]+)?%$"
MONEY = r"^\$?[0-9]+(\.[0-9]+)?$"
NAME = r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$"
HEADER_NAME = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
BUDGET = r"^\$?[0-9]+(\.[0-9]+)?/(day|week|month|total)$"
COST = r"^\$?[0-9]+(\.[0-9]+)?/1k$"
RATE = r"^[0-9]+(\.[0-9]+)?[kM]?/(s|min|hour)$"
COUNT = r"^[0-9]+(\.[0-9]+)?[kM]?$"
SCOPE = r"^(all|tenant|key|(tenant|key|route|tag):[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127})$"
SECRET_REF = r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$"  # noqa: S105 - the form of a reference, not a secret

HOURS = r"^([01]?[0-9]|2[0-3]):[0-5][0-9]-(([01]?[0-9]|2[0-3]):[0-5][0-9]|24:00)$"
MAX_REGEX_CHARS = 1024
MINUTES = 24 * 60

_REGEX_MEMORY = 8 << 20
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MAX_DURATION_S = 7 * 86400.0
_FACTORS = {"k": 1_000, "M": 1_000_000}
_PER_MINUTE = {"s": Decimal(60), "min": Decimal(1), "hour": Decimal(1) / 60}
_MAX_COUNT = 10**12
_ENDPOINTS = ("/chat/completions", "/completions", "/embeddings", "/responses", "/messages")


class BadValue(ValueError):
    """A value that cannot be read: what is wrong and how to write it. Neither repeats a possible secret."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def seconds(value: Any) -> float:
    """`500ms`, `2s`, `5m`, `1h`, `1d` in seconds, above zero and at most a week. A bare number has no unit."""
    if not isinstance(value, str) or not re.fullmatch(DURATION, value) or len(value) > 20:
        raise BadValue(f"{_shown(value)} is not a duration", "write a number and a unit: 500ms, 2s, 5m, 1h")
    unit = value.lstrip("0123456789.")
    result = round(float(value[: -len(unit)]) * _SECONDS[unit], 6)
    if not 0 < result <= _MAX_DURATION_S:
        raise BadValue(f"{value} is out of range", "write a duration above 0 and up to 7d")
    return result


def fraction(value: Any) -> float:
    """`20%`, or a number from 0 up to but not including 1, as a fraction. `1` could mean both 1% and 100%."""
    if isinstance(value, str) and re.fullmatch(PERCENTAGE, value) and len(value) <= 20:
        result = float(value[:-1]) / 100
        if result <= 1:
            return result
    elif isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1:
        return float(value)
    raise BadValue(f"{_shown(value)} is not a percentage", "write it with a percent sign, from 0% to 100%: 20%")


def usd(value: Any) -> Decimal:
    """`$2.10`, `"2.10"` or `2.10`: dollars, zero or more, at most a million."""
    text = value if isinstance(value, str) else repr(value)
    if isinstance(value, bool) or len(text) > 30 or not re.fullmatch(MONEY, text):
        raise BadValue(f"{_shown(value)} is not an amount of dollars", "write $2.10 or 2.10")
    amount = Decimal(text.removeprefix("$"))
    if amount > 1_000_000:
        raise BadValue(f"{_shown(value)} is above a million dollars", "write the amount in USD")
    return amount


def usd_text(value: Any) -> str:
    """Dollars as a plain decimal string, without `$`."""
    return format(usd(value), "f")


def micro_usd(value: Any) -> int:
    """Dollars as integer micro-USD, above zero and with at most six decimals."""
    micro = usd(value) * 1_000_000
    if micro != micro.to_integral_value() or not micro:
        raise BadValue(f"{_shown(value)} is not above 0 with at most six decimals", "write $0.50")
    return int(micro)


def budget(value: Any) -> tuple[int, str]:
    """`$500/month` as (micro-USD, period): dollars above zero per `day`, `week`, `month` or in `total`."""
    if not isinstance(value, str) or len(value) > 40 or not re.fullmatch(BUDGET, value):
        raise BadValue(
            f"{_shown(value)} is not an amount for a period", "write $500/month; also /day, /week and /total"
        )
    amount, _, period = value.partition("/")
    return micro_usd(amount), period


def cost_per_thousand(value: Any) -> int:
    """`$0.80/1k` as micro-USD for 1,000 requests, above zero."""
    if not isinstance(value, str) or len(value) > 40 or not re.fullmatch(COST, value):
        raise BadValue(f"{_shown(value)} is not a cost of 1,000 requests", "write $0.80/1k")
    return micro_usd(value.removesuffix("/1k"))


def rate(value: Any) -> int:
    """`600/min`, `10/s`, `200k/min`, `6M/hour` as a whole number per minute, at least 1."""
    if not isinstance(value, str) or len(value) > 40 or not re.fullmatch(RATE, value):
        raise BadValue(f"{_shown(value)} is not a rate", "write a number per s, min or hour: 600/min, 10/s, 200k/min")
    number, _, unit = value.partition("/")
    per_minute = (_number(number) * _PER_MINUTE[unit]).quantize(Decimal("0.000001"))
    if per_minute != per_minute.to_integral_value() or not 1 <= per_minute <= _MAX_COUNT:
        near = min(max(1, round(per_minute)), _MAX_COUNT)
        raise BadValue(f"{value} is not a whole number a minute", f"write {near}/min, or another whole number")
    return int(per_minute)


def count(value: Any) -> int:
    """`50`, `16k`, `1.5M`: a whole number, at least 1."""
    text = value if isinstance(value, str) else repr(value)
    fits = not isinstance(value, bool) and len(text) <= 20 and re.fullmatch(COUNT, text)
    number = _number(text) if fits else Decimal(0)
    if number != number.to_integral_value() or not 1 <= number <= _MAX_COUNT:
        raise BadValue(f"{_shown(value)} is not a whole number above 0", "write 50, 16k or 2M")
    return int(number)


def _number(text: str) -> Decimal:
    """A decimal with `k` or `M` behind it."""
    factor = _FACTORS.get(text[-1], 1)
    return Decimal(text.rstrip("kM")) * factor


def soft_limit(value: Any) -> float:
    """A share of a budget as a fraction, above 0 and up to 1."""
    result = fraction(value)
    if not result:
        raise BadValue(f"{_shown(value)} is always reached", "write it above 0%, up to 100%: 80%")
    return result


def scope(value: Any) -> str:
    """Who or what a budget or limit is for: `all`, `tenant:NAME`, ..., or `tenant` and `key`: each one its own."""
    if not isinstance(value, str) or not re.fullmatch(SCOPE, value):
        raise BadValue(
            f"{_shown(value)} is not a scope",
            "write all, tenant:NAME, key:NAME, route:NAME, tag:NAME, or tenant or key for each one its own",
        )
    return value


def timezone(value: Any) -> str:
    """An IANA name that this system knows, such as `Europe/Berlin`; `UTC` always is one."""
    if value == "UTC":
        return "UTC"
    fix = "write an IANA name such as Europe/Berlin; they come with the system's tzdata"
    if not isinstance(value, str) or len(value) > 64:
        raise BadValue(f"{_shown(value)} is not a time zone", fix)
    try:
        return zoneinfo.ZoneInfo(value).key
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as exc:  # a directory of zones, a path, no tables
        raise BadValue(f"{_shown(value)} is not a time zone known here", fix) from exc


def unknown_price(value: Any) -> int | str:
    """`refuse`, `allow`, or dollars as integer micro-USD."""
    if value in ("refuse", "allow"):
        return str(value)
    try:
        return micro_usd(value)
    except BadValue as exc:
        fix = "write refuse, allow, or the dollars to reserve for such a request: $0.50"
        raise BadValue(f"{_shown(value)} is no rule for unknown prices", fix) from exc


def webhook(value: str) -> str:
    """A resolved secret as the http(s) URL that it must be; may have a query. Never repeats it."""
    fix = "store the whole address of the webhook: https://HOST/PATH"
    try:
        parts = urlsplit(value)
    except ValueError as exc:
        raise BadValue("it holds no valid URL", fix) from exc
    if parts.scheme not in ("http", "https") or not parts.hostname or " " in value:
        raise BadValue("it holds no http(s) URL", fix)
    return value


def pico_usd_per_token(value: Any) -> int:
    """Dollars per million tokens as integer pico-USD per token; $1 per million is 1,000,000. At most 6 decimals."""
    pico = usd(value) * 1_000_000
    if pico != pico.to_integral_value():
        raise BadValue(f"{_shown(value)} has more than six decimals", "round the price to $0.000001 per million tokens")
    return int(pico)


def amount(value: Any) -> float:
    """A finite number above zero (tokens per second, for one)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise BadValue(f"{_shown(value)} is not a number above 0", "write a number, such as 1200")
    return float(value)


def name(value: Any) -> str:
    """A name of a target, pool, key, tenant, tag or route: it appears in headers and metrics, so plain ASCII."""
    if not isinstance(value, str) or not re.fullmatch(NAME, value):
        raise BadValue(
            f"{_shown(value)} is not a usable name",
            "start with a letter or digit, then letters, digits and . _ - : / @ +, at most 128",
        )
    return value


def pattern(value: Any) -> str:
    """A name or header value with `*` for any text; there is no other wildcard."""
    if not isinstance(value, str) or not value or len(value) > 256 or not value.isprintable():
        raise BadValue(f"{_shown(value)} is not a pattern", "write a text, with * for any part: gpt-4o*")
    return value


def regex(value: Any) -> str:
    """A regular expression of RE2 (linear in the text, whatever the pattern), tried once on a text."""
    if not isinstance(value, str) or not value or len(value) > MAX_REGEX_CHARS or "\n" in value:
        raise BadValue(f"{_shown(value)} is not a regular expression", "write one line of at most 1024 characters")
    import re2  # noqa: PLC0415 - only for policies that use it

    try:
        made = re2.compile(value, regex_options())
        made.search("a text to try it on, 123")
    except (re2.error, UnicodeEncodeError) as exc:
        fix = "write it in RE2's syntax, which has no look-around and no back-references; quote it in YAML"
        raise BadValue(f"{_shown(value)} is not a regular expression ({_words(exc)})", fix) from exc
    return value


def _words(error: Exception) -> str:
    reason = error.args[0] if error.args else error
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)


def regex_options() -> Any:
    """How every pattern of a policy is compiled: bounded memory, no captures, silent."""
    import re2  # noqa: PLC0415 - only for policies that use it

    options = re2.Options()
    options.max_mem = _REGEX_MEMORY
    options.never_capture = True
    options.log_errors = False
    return options


def keyword(value: Any) -> str:
    """A word or a phrase, found between word boundaries in any case."""
    if not isinstance(value, str) or not value.strip() or len(value) > 128 or not value.isprintable():
        raise BadValue(f"{_shown(value)} is not a keyword", "write a word or a phrase of at most 128 characters")
    return " ".join(value.split())


def hours(value: Any) -> tuple[int, int]:
    """`09:00-17:30` as minutes of the day, the end not included; past midnight where the end is before the begin."""
    if not isinstance(value, str) or not re.fullmatch(HOURS, value):
        raise BadValue(f"{_shown(value)} is not a span of hours", 'write "09:00-17:30", or "22:00-06:00" over midnight')
    begin, end = (int(at.partition(":")[0]) * 60 + int(at.partition(":")[2]) for at in value.split("-"))
    if begin == end:
        raise BadValue(f"{value} is empty", "leave `hours` out for the whole day")
    return begin, end


def header_name(value: Any) -> str:
    """An HTTP field name (RFC 9110, 5.1), lower-cased."""
    if not isinstance(value, str) or not re.fullmatch(HEADER_NAME, value):
        raise BadValue(f"{_shown(value)} is not a header name", "use letters, digits and -")
    return value.lower()


def header_value(value: Any) -> str:
    """A literal header value or a reference to one; visible ASCII and spaces."""
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
        raise BadValue("not a header value", "write a line of plain ASCII text (quoted), env:NAME or file:PATH")
    if value.startswith(("env:", "file:")):
        return secret_ref(value)
    return value


def secret_ref(value: Any) -> str:
    """`env:NAME` or `file:PATH`. Anything else is taken for a secret in plain text: refused and not repeated."""
    if not isinstance(value, str) or not re.fullmatch(SECRET_REF, value):
        raise BadValue(
            "not a reference to a secret; a secret never stands in a policy file",
            "write env:NAME for an environment variable or file:PATH for a file, such as env:OPENAI_API_KEY",
        )
    return value


def base_url(value: Any) -> str:
    """An API's http(s) URL with its prefix, without trailing slash: `https://api.openai.com/v1`."""
    text = _url(value)
    for endpoint in _ENDPOINTS:
        if text.endswith(endpoint):
            raise BadValue(f"ends in the endpoint {endpoint}", f"end it before that: {text.removesuffix(endpoint)}")
    return text


def replica_url(value: Any) -> str:
    """A replica's http(s) URL that ends before `/v1`; a trailing `/v1` is taken off."""
    return _url(value).removesuffix("/v1").rstrip("/")


def _url(value: Any) -> str:
    fix = "write http(s)://HOST[:PORT][/PATH] and nothing more"
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        raise BadValue("not a URL in plain ASCII", fix)
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as exc:
        raise BadValue("not a valid URL", fix) from exc
    if parts.scheme not in ("http", "https"):
        raise BadValue("not an http or https URL", fix)
    if not parts.hostname or port == 0:
        raise BadValue("the URL names no host or port to connect to", fix)
    if "@" in parts.netloc:
        raise BadValue("the URL holds a user name or password", "move it to api_key or headers as env: or file:")
    if "?" in value or "#" in value:
        raise BadValue("the URL has a query or a fragment", "move the query to `query: {name: value}`")
    return value.rstrip("/")
