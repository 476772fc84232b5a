"""Who asks: a bearer token or Anthropic's x-api-key, looked up by its SHA-256 and never kept or logged.

Keys come from the policy and from the store of keys (`Keyring`). Fails closed: no key or an unknown one is 401 as
soon as there is any key; while the store is away for too long its keys are 503. Without keys the gateway is open,
which the settings allow on a loopback address only.
"""

import contextlib
import hashlib
import importlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gateway.access.keyring import Keyring
from gateway.core.errors import Unauthorized
from gateway.core.exchange import Exchange, Identity, Next, Reply

OPEN = Identity(tenant="default", key="open")


def _sha256() -> Callable[[bytes], Any]:
    """CPython's own SHA-256: on a key, one block, OpenSSL's takes twice as long to find its way to the same digest."""
    for module in ("_sha2", "_sha256"):  # from 3.12 on, and before
        with contextlib.suppress(ImportError):
            return importlib.import_module(module).sha256  # type: ignore[no-any-return]
    return hashlib.sha256


_hashed = _sha256()


def bearer(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The credential of a request: `Authorization: Bearer`, else `x-api-key`, else Azure's `api-key`."""
    value = headers.get(b"authorization")
    if value is None:
        value = headers.get(b"x-api-key") or headers.get(b"api-key")
        return value.strip() if value else None
    if value[:7].lower() != b"bearer ":
        return None
    return value[7:].strip()


def identify(
    keys: Mapping[str, Identity],
    headers: Mapping[bytes, bytes],
    *,
    may_be_open: bool,
    keyring: Keyring | None = None,
) -> Identity:
    """The caller's identity; raises `Unauthorized`, or `KeysUnavailable` where only the store could know.

    `keys` maps SHA-256 hex digests to the identities of the policy's keys. `may_be_open` lets everybody in while
    there is no key at all; without it nobody is.
    """
    if not keys and may_be_open and (keyring is None or keyring.empty):
        return OPEN
    token = bearer(headers)
    if not token:
        raise Unauthorized(
            "You didn't provide an API key. Provide it in an Authorization header using Bearer auth "
            "(Authorization: Bearer YOUR_KEY).",
            code="missing_api_key",
        )
    sha256: str = _hashed(token).hexdigest()
    identity = keys.get(sha256)
    if identity is None and keyring is not None and (held := keyring.find(sha256)) is not None:
        identity = held.identity
    if identity is None:
        raise Unauthorized("Incorrect API key provided.")
    return identity


class Authenticate:
    """The first stage: no request goes on without an identity."""

    def __init__(
        self, keys: Callable[[], Mapping[str, Identity]], *, may_be_open: bool, keyring: Keyring | None = None
    ) -> None:
        self._keys = keys
        self._may_be_open = may_be_open
        self._keyring = keyring

    def __call__(self, exchange: Exchange, call_next: Next) -> Awaitable[Reply]:
        """401 or the next stage."""
        exchange.identity = identify(
            self._keys(), exchange.call.index, may_be_open=self._may_be_open, keyring=self._keyring
        )
        return call_next(exchange)
