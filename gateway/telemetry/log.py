"""Logs for people and for collectors: short lines on a terminal, one JSON object a line elsewhere.

No prompt, no completion and no secret is ever logged; what looks like a key in a line is masked. A log call whose
only argument is a dict has fields: JSON members of their own, `name=value` behind the message on a terminal.
"""

import logging
import re
import sys
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from gateway.core.exchange import RequestRecord
from gateway.core.money import usd

access = logging.getLogger("farthing.access")

_SECRET = re.compile(
    r"(?<![A-Za-z0-9])"  # not in the middle of a word: risk-assessment is no key
    r"(sk-|sk_|pk-|rk_|gsk_|xai-|hf_|ghp_|github_pat_|AKIA|AIza"  # prefixes of providers' keys
    r"|(?i:bearer|basic)\s+"  # Authorization's schemes
    r"|(?i:api[-_]?key|authorization|token|password|secret)[\"']?\s*[=:]\s*[\"']?)"
    r"[A-Za-z0-9+/_\-.~]{8,}=*"
)
_IN_URL = re.compile(r"(://[^/\s:@\"']*:)[^/\s@\"']+@")
_CHATTY = ("asyncio", "httpcore", "httpx", "urllib3", "uvicorn.error")
_FAILURES = frozenset(["upstream_error", "truncated", "internal_error"])


def redact(text: str) -> str:
    """`text` with everything that looks like a credential masked; what kind of one it was stays legible."""
    return _IN_URL.sub(r"\1***@", _SECRET.sub(r"\1***", text))


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return dict(record.args) if isinstance(record.args, dict) else {}


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {"at": at, "level": record.levelname.lower(), "logger": record.name}
        line = {**line, "message": record.getMessage(), **_fields(record), **line}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return redact(msgspec.json.encode(line, enc_hook=str).decode())


class _Human(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        pairs = "".join(f" {name}={value}" for name, value in _fields(record).items())
        return super().formatMessage(record) + pairs

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def handler(stream: TextIO) -> logging.Handler:
    """Writes to `stream`: for people if it is a terminal, JSON lines if not."""
    made = logging.StreamHandler(stream)
    made.setFormatter(_Human() if stream.isatty() else _Json())
    return made


def setup(level: str) -> None:
    """Sends all logs to stderr at `level` (debug, info, warning, error), in place of any set-up before."""
    logging.basicConfig(level=level.upper(), handlers=[handler(sys.stderr)], force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Its warnings announce each retry of an export; what is lost in the end is an error, and counted.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)


class AccessLog:
    """A consumer that logs one line per request: at warning what an upstream or the gateway broke, else at info.

    At level `warning` the log therefore holds the failures alone.
    """

    def __call__(self, batch: list[RequestRecord]) -> None:
        """Writes the batch."""
        for record in batch:
            level = logging.WARNING if record.outcome in _FAILURES else logging.INFO
            if access.isEnabledFor(level):
                access.log(level, "request", _line(record))


def _line(record: RequestRecord) -> dict[str, object]:
    usage = record.usage
    return {
        "request_id": record.request_id,
        # The caller's bytes, decoded: a line break in it must not begin a line of the log.
        "path": record.path if record.path.isprintable() else ascii(record.path),
        "status": record.status,
        "outcome": record.outcome,
        "error": record.error,
        "tenant": record.tenant,
        "key": record.key,
        "route": record.route,
        "target": record.target,
        "policy": record.policy,
        "shadow": record.shadow.target if record.shadow is not None and record.shadow.verdict == "other" else None,
        "requested_model": record.requested_model,
        "model": record.model,
        "attempts": len(record.attempts),
        "input_tokens": usage.input if usage is not None else None,
        "output_tokens": usage.output if usage is not None else None,
        "cost_usd": usd(record.cost_micro_usd),
        "duration_ms": round(record.duration_s * 1000, 1),
        "ttft_ms": round(record.ttft_s * 1000, 1) if record.ttft_s is not None else None,
    }
