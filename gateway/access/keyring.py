"""The keys as the hot path sees them: a map by digest in memory, kept up to date from the store.

A look-up reads the map and the clocks and nothing else. A change in the store, a revocation for one, arrives within
the poll's interval. Fails closed: while the store is away the last view serves for `max_stale_s`, then every look-up
is `KeysUnavailable` (503), because a revocation could not have been seen.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping

import msgspec

from gateway.access.keys_database import Changes, KeyStore
from gateway.access.keystore import AdminRecord, KeyLimits, KeyRecord, TenantRecord, digest, limits_of
from gateway.core.clock import Clock
from gateway.core.errors import GatewayError, Unauthorized
from gateway.core.exchange import Identity
from gateway.core.limits import Applies
from gateway.database import DatabaseError

log = logging.getLogger("farthing.keys")
POLL_S = 0.3
MAX_STALE_S = 60.0


class KeysUnavailable(GatewayError):
    """503: the keys have not been read for too long."""

    status = 503
    code = "keys_unavailable"
    retryable = True


class Held(msgspec.Struct, frozen=True):
    """What one secret stands for, ready to use. `ends_s` is Unix time: the key's expiry or the end of a grace."""

    identity: Identity
    limits: KeyLimits
    applies: Applies
    ends_s: float | None
    revoked: bool


class Keyring:
    """See the module. `by_hash` and `by_id` are never changed, only replaced as a whole.

    `by_hash` goes by the SHA-256 of a secret (two for a key within the grace of a rotation), `by_id` by the key's id.
    """

    by_hash: Mapping[str, Held]
    by_id: Mapping[str, Held]

    def __init__(self, store: KeyStore, clock: Clock, max_stale_s: float = MAX_STALE_S) -> None:
        self.by_hash, self.by_id = {}, {}
        self._store = store
        self._monotonic = clock.monotonic
        self._wall = clock.wall
        self._max_stale_s = max_stale_s
        self._good_until = float("-inf")
        self._version = -1
        self._records: dict[str, KeyRecord] = {}
        self._tenants: dict[str, TenantRecord] = {}
        self._admins: dict[str, AdminRecord] = {}
        self._admins_by_hash: Mapping[str, AdminRecord] = {}
        self._refreshing = threading.Lock()

    @property
    def empty(self) -> bool:
        """No key has ever been made. Raises `KeysUnavailable`."""
        self._check_fresh()
        return not self.by_hash

    def find(self, sha256: str) -> Held | None:
        """The key with this digest, `None` for none. Raises `Unauthorized` if it has ended, `KeysUnavailable`."""
        if self._monotonic() > self._good_until:
            self._check_fresh()
        held = self.by_hash.get(sha256)
        if held is None:
            return None
        if held.revoked:
            raise Unauthorized("This API key has been revoked.", code="revoked_api_key")
        if held.ends_s is not None and self._wall() >= held.ends_s:
            raise Unauthorized("This API key has expired.", code="expired_api_key")
        return held

    def find_admin(self, secret: str | bytes) -> AdminRecord | None:
        """The active credential with this secret, `None` for none. Raises `KeysUnavailable`."""
        sha256 = digest(secret)
        self._check_fresh()
        record = self._admins_by_hash.get(sha256)
        return record if record is not None and record.active(self._wall()) else None

    def _check_fresh(self) -> None:
        if self._monotonic() > self._good_until:
            raise KeysUnavailable("The store of keys does not answer.", retry_after_s=1.0)

    def refresh(self) -> bool:
        """Reads what has changed since the last time; whether anything had. Blocks. Raises `DatabaseError`."""
        with self._refreshing:
            asked_at = self._monotonic()
            version = self._store.version()
            moved = version != self._version
            if moved:
                # A lower version is an older state of the database, put back: all of it is read anew.
                known = self._version if version > self._version else -1
                self._take(self._store.changes(known), whole=known < 0)
            self._good_until = asked_at + self._max_stale_s
            return moved

    def _take(self, changes: Changes, *, whole: bool) -> None:
        """Builds the next view beside the one that serves, then swaps them. `whole` forgets what was known."""
        by_hash = {} if whole else dict(self.by_hash)
        by_id = {} if whole else dict(self.by_id)
        if whole:
            self._records, self._tenants, self._admins = {}, {}, {}
        touched = {tenant.name: tenant for tenant in changes.tenants}
        self._tenants.update(touched)
        changed = {id_: record for id_, record in self._records.items() if record.tenant in touched}
        changed.update({record.id: record for record in changes.keys})
        for id_, record in changed.items():
            if (old := self._records.get(id_)) is not None:
                for sha256 in _digests(old):
                    by_hash.pop(sha256, None)
            self._records[id_] = record
            views = held_of(record, self._tenants.get(record.tenant))
            by_hash.update(views)
            by_id[id_] = views[record.sha256]
        self._admins.update({admin.id: admin for admin in changes.admins})
        self._admins_by_hash = {admin.sha256: admin for admin in self._admins.values()}
        self.by_hash, self.by_id = by_hash, by_id
        self._version = changes.version

    async def run(self, interval_s: float = POLL_S) -> None:
        """Refreshes for ever. An outage is logged once when it begins and once when it ends."""
        away = False
        while True:
            try:
                await asyncio.to_thread(self.refresh)
                if away:
                    log.warning("the store of keys answers again")
                away = False
            except DatabaseError as exc:
                if not away:
                    log.error("keys cannot be read, the last ones serve for %g s: %s", self._max_stale_s, exc.message)  # noqa: TRY400 - the message says it all
                away = True
            await asyncio.sleep(interval_s)


def held_of(record: KeyRecord, tenant: TenantRecord | None) -> dict[str, Held]:
    """What each valid digest of a key stands for."""
    limits = record.limits
    held = Held(record.identity(), limits, limits_of(record, tenant), limits.expires_s, record.revoked_s is not None)
    views = {record.sha256: held}
    if record.previous_sha256 is not None and record.previous_until_s is not None:
        until = min(record.previous_until_s, limits.expires_s or record.previous_until_s)
        views[record.previous_sha256] = msgspec.structs.replace(held, ends_s=until)
    return views


def _digests(record: KeyRecord) -> tuple[str, ...]:
    return (record.sha256,) if record.previous_sha256 is None else (record.sha256, record.previous_sha256)
