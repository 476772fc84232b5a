"""Logs for people and for collectors: short lines on a terminal, one JSON object a line elsewhere.

No prompt, no completion and no secret is ever logged; what looks like a key in a message is masked.
"""

import logging
import re
import sys
from datetime import UTC, datetime

import msgspec

from gateway.core.exchange import RequestRecord
from gateway.core.money import usd

_SECRET = re.compile(r"(sk-|Bearer\s+|key-|token=)[A-Za-z0-9_\-.]{6,}")
access = logging.getLogger("farthing.access")


def redact(text: str) -> str:
    """`text` with everything that looks like a credential masked."""
    return _SECRET.sub(r"\1***", text)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if isinstance(record.args, dict):
            line |= record.args
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return redact(msgspec.json.encode(line).decode())


class _Human(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def setup(level: str) -> None:
    """Sends all logs to stderr at `level` (debug, info, warning, error)."""
    handler = logging.StreamHandler(sys.stderr)
    human = _Human("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")
    handler.setFormatter(human if sys.stderr.isatty() else _Json())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("httpx", "httpcore", "uvicorn.error", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


class AccessLog:
    """A consumer that logs one line per request."""

    def __call__(self, batch: list[RequestRecord]) -> None:
        """Writes the batch."""
        for record in batch:
            access.info(
                "%(method_path)s %(status)d %(outcome)s model=%(model)s target=%(target)s tenant=%(tenant)s "
                "cost_usd=%(cost_usd)s ms=%(duration_ms).1f id=%(request_id)s",
                {
                    "method_path": record.path,
                    "status": record.status,
                    "outcome": record.outcome,
                    "model": record.requested_model,
                    "target": record.target,
                    "tenant": record.tenant,
                    "cost_usd": usd(record.cost_micro_usd),
                    "duration_ms": record.duration_s * 1000,
                    "request_id": record.request_id,
                },
            )
