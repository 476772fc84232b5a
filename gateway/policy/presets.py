"""What each provider's name stands for: wire format, usual address, way to authenticate. Data only."""

from typing import Literal

import msgspec


class Preset(msgspec.Struct, frozen=True):
    """Defaults of one `provider`. `base_url` `None` must be given; `keyed` needs an api_key unless `auth: none`."""

    wire: Literal["openai_compatible", "anthropic", "sandbox"] = "openai_compatible"
    base_url: str | None = None
    auth: str = "bearer"
    keyed: bool = False
    self_hosted: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    health: str = "/health"


PRESETS = {
    "openai": Preset(base_url="https://api.openai.com/v1", keyed=True),
    "openai_compatible": Preset(),
    "azure": Preset(auth="api-key", keyed=True),
    "anthropic": Preset(
        wire="anthropic",
        base_url="https://api.anthropic.com/v1",
        auth="x-api-key",
        keyed=True,
        headers=(("anthropic-version", "2023-06-01"),),
    ),
    "vllm": Preset(base_url="http://127.0.0.1:8000/v1", self_hosted=True),
    "sglang": Preset(base_url="http://127.0.0.1:30000/v1", self_hosted=True),
    "tgi": Preset(base_url="http://127.0.0.1:3000/v1", self_hosted=True),
    "ollama": Preset(base_url="http://127.0.0.1:11434/v1", self_hosted=True, health="/"),
    "llamacpp": Preset(base_url="http://127.0.0.1:8080/v1", self_hosted=True),
    "sandbox": Preset(wire="sandbox", auth="none"),
}
AUTH_HEADERS = {"bearer": "authorization", "api-key": "api-key", "x-api-key": "x-api-key"}
CREDENTIAL_HEADERS = frozenset({*AUTH_HEADERS.values(), "proxy-authorization", "cookie"})
FRAMING_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "te", "upgrade", "accept-encoding"}
)
"""Headers that the gateway's own client writes."""
