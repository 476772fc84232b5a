"""Process plumbing: where to listen, where the policies are, how loud to be. The only reader of the environment.

What requests do is policy (YAML), never a setting. Every setting is `FARTHING_<NAME>`. A variable of that prefix that
is no setting is reported at start (a misspelling must not pass silently) but not refused: Kubernetes adds its own for
a service named `farthing`, `FARTHING_PORT=tcp://...` among them, which is ignored.
"""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "FARTHING_"
NO_DATABASE = "none"


class SettingsError(Exception):
    """The environment or the command line asks for what cannot be; the message says what to do."""


class Settings(BaseSettings):
    """Read from the environment; the command line overrides."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(4000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    policies: Path = Field(Path("routing_policies"), description="Directory of the policy YAML files.")
    data_dir: Path = Field(Path("farthing-data"), description="Directory of the journal and of the SQLite database.")
    database: str = Field(
        "",
        description="Ledger and keys: sqlite:///PATH, postgresql://... or none; empty: farthing.db in the data dir.",
    )
    redis: str = Field("", description="Budgets and limits of many replicas: redis://...; empty: in this process.")
    replicas: int = Field(1, ge=1, le=10_000, description="Replicas that share the Redis, for their shares of limits.")
    budgets_degraded: bool = Field(
        False, description="While Redis is away, spend this replica's share of what was left instead of refusing."
    )
    retention_days: int = Field(30, ge=1, description="How long single requests stay in the ledger.")
    qdrant: str = Field(
        "", description="Vectors of many replicas' cache: http://... (gRPC on the next port); needs FARTHING_REDIS."
    )
    qdrant_api_key: str = Field("", description="Its API key, if it wants one.", repr=False)
    cache_mib: int = Field(256, ge=1, le=1 << 20, description="Memory for cached answers in this process.")
    encoder: str = Field("minilm", description="minilm (shipped), or a sentence-transformers model: path or hub id.")
    admin_key: str = Field("", description="Admin credential of `farthing cache`; not read by serve.", repr=False)
    reload_interval_s: float = Field(1.0, gt=0, description="How often the policy files are looked at.")
    log_level: str = Field("info", description="debug, info, warning or error.")
    access_log: bool = Field(False, description="One log line per request (never with prompts).")
    max_body_mib: int = Field(64, ge=1, le=1024, description="Largest request body.")
    graceful_shutdown_s: int = Field(30, ge=0, description="How long open streams may go on after SIGTERM.")
    otlp_endpoint: str | None = Field(None, description="OTLP/HTTP collector, e.g. http://otel-collector:4318.")
    otlp_headers: str = Field("", description="Headers for the collector: name=value,name=value.")
    discover: bool = Field(True, description="Look for API keys and local servers when no policy names a target.")

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.lower() not in ("debug", "info", "warning", "error"):
            raise ValueError("must be debug, info, warning or error")
        return value.lower()

    @field_validator("database")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if value not in ("", NO_DATABASE) and not value.startswith(("sqlite:///", "postgresql://", "postgres://")):
            raise ValueError("must be sqlite:///PATH, postgresql://HOST/NAME or none")
        return value

    @field_validator("redis")
    @classmethod
    def _known_redis(cls, value: str) -> str:
        if value and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must be redis://HOST:PORT/DB, rediss:// or unix://")
        return value

    @field_validator("qdrant")
    @classmethod
    def _known_qdrant(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must be http://HOST:PORT or https://")
        return value

    @model_validator(mode="after")
    def _cache_is_shared(self) -> Self:
        if self.qdrant and not self.redis:
            raise ValueError("FARTHING_QDRANT holds vectors only; their answers need FARTHING_REDIS; fix: set it")
        return self

    @model_validator(mode="after")
    def _state_is_shared(self) -> Self:
        if self.replicas > 1 and not (self.redis and self.database.startswith("postgres")):
            raise ValueError(
                "FARTHING_REPLICAS > 1 needs FARTHING_REDIS and a postgresql:// FARTHING_DATABASE: "
                "budgets and keys in one process's files are not shared"
            )
        return self

    @property
    def keeps_books(self) -> bool:
        """Whether there are a ledger, stored keys and budgets; without them nothing is written to disk."""
        return self.database != NO_DATABASE

    @property
    def database_url(self) -> str:
        """The database in force."""
        return self.database or f"sqlite:///{self.data_dir / 'farthing.db'}"

    @property
    def journal_dir(self) -> Path:
        """The folder of the journal."""
        return self.data_dir / "journal"

    @property
    def cache_file(self) -> Path | None:
        """Where cached answers outlive the process; `None` where nothing is written to disk."""
        return self.data_dir / "cache.db" if self.keeps_books else None

    @property
    def loopback(self) -> bool:
        """Only this machine can reach the gateway."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def load(overrides: Mapping[str, object] | None = None) -> Settings:
    """The settings; raises `SettingsError` naming each variable that is wrong."""
    given = {k: v for k, v in (overrides or {}).items() if v is not None}
    if "://" in os.environ.get(PREFIX + "PORT", ""):
        given.setdefault("port", Settings.model_fields["port"].default)
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as exc:
        raise SettingsError("; ".join(_told(error["loc"], error["msg"]) for error in exc.errors())) from exc


def _told(where: tuple[int | str, ...], message: str) -> str:
    """The variable, unless it takes several to be wrong, and what is wrong with it."""
    name = "".join(f"{PREFIX}{str(part).upper()}: " for part in where[:1])
    return name + message.removeprefix("Value error, ")


def unknown() -> list[str]:
    """Variables that look like settings and are none, by name."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    names = [name for name in os.environ if name.startswith(PREFIX) and name not in known]
    return sorted(name for name in names if not name.startswith((PREFIX + "PORT_", PREFIX + "SERVICE_")))


def environment() -> Mapping[str, str]:
    """The environment for `env:NAME` references and discovery, handed on as an argument."""
    return os.environ
