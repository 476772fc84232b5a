"""Everything that keeps money, opened and ended as one: the database, keys, budgets, the journal and its writer.

Part of the composition root, like `app`: here the adapters are chosen by the settings. Fails closed: without its
database and its journal the gateway does not start.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from gateway.access.accounts import Spent, Window
from gateway.access.embedded import EmbeddedAccounts
from gateway.access.keyring import Keyring
from gateway.access.keys_database import KeyStore, ensure_owner
from gateway.access.owner import next_owner
from gateway.core.clock import Clock
from gateway.core.exchange import Exchange, RequestRecord
from gateway.database import Database, DatabaseError, open_database
from gateway.ledger.journal import Journal
from gateway.ledger.retention import Keep, sweep
from gateway.ledger.store import LedgerStore
from gateway.ledger.writer import LedgerWriter
from gateway.policy.table import Policy
from gateway.pricing.quotes import Quotes
from gateway.pricing.savings import savings
from gateway.settings import Settings, SettingsError

if TYPE_CHECKING:
    from gateway.access.redis import RedisAccounts

log = logging.getLogger("farthing.books")
DRAIN_S = 10.0
"""How long the end of the process waits for rows to be stored; what is left is replayed at the next start."""
CATCH_UP_S = 1.0
"""How long a question about spent money waits for the rows that it must count."""
SWEEP_S = 1.0
RETENTION_S = 3600.0


def open_data(settings: Settings) -> Database:
    """The database of the settings; its folder is made. Raises `SettingsError` or `DatabaseError`."""
    if not settings.database:
        try:
            settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as exc:
            raise SettingsError(
                f"{settings.data_dir}: {exc.strerror}; fix: set FARTHING_DATA_DIR to a directory that can be written"
            ) from exc
    return open_database(settings.database_url)


class Books:
    """See the module. `owner_secret` is the first admin key, set only on the first start: show it once."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._wall = clock.wall
        self._monotonic = clock.monotonic
        self.database = open_data(settings)
        try:
            self._open(settings, clock)
        except BaseException:
            self.database.close()
            raise

    def _open(self, settings: Settings, clock: Clock) -> None:
        self.store = LedgerStore(self.database)
        self.store.migrate()
        keys = KeyStore(self.database)
        self.keys = keys
        self.owner_secret = ensure_owner(keys, clock.wall())
        self.keyring = Keyring(keys, clock)
        self.keyring.refresh()
        settings.journal_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.writer = LedgerWriter(Journal(settings.journal_dir), self.store, clock)
        self._owner = next_owner(settings.journal_dir, clock.wall())
        self._keep = Keep(rows_days=settings.retention_days)
        self.accounts: EmbeddedAccounts | RedisAccounts
        if settings.redis:
            from gateway.access import redis  # noqa: PLC0415 - heavy, and only where it is configured

            self.accounts = redis.RedisAccounts(
                settings.redis,
                self._committed,
                replicas=settings.replicas,
                degraded_share=settings.budgets_degraded,
                owner=self._owner,
            )
        else:
            self.accounts = EmbeddedAccounts(self._committed)
        self._replay()

    def _replay(self) -> None:
        """What earlier processes left."""
        try:
            replayed = self.writer.replay(lambda rows: log.info("replaying the journal: %d rows", rows))
        except DatabaseError as exc:
            log.error("the journal is replayed later: %s", exc.message)  # noqa: TRY400 - the message says it all
        else:
            if replayed:
                log.info("replayed %d requests from the journal", replayed)

    async def _committed(self, windows: Sequence[Window]) -> list[int]:
        """What each window has committed, by every request of this process that has ended; raises `DatabaseError`.

        Rows that wait are stored first: counting without them would let their money be spent twice.
        """
        ended, until = self.writer.ended, self._monotonic() + CATCH_UP_S
        if not self.writer.has_stored(ended):
            self.writer.hurry()
        while not self.writer.has_stored(ended):
            if self._monotonic() >= until:
                raise DatabaseError("rows of ended requests wait in the journal; fix: bring the database back")
            await asyncio.sleep(0.002)
        return await self.store.committed(windows)

    def finish(self, exchange: Exchange, now: float, policy: Policy, quotes: Quotes) -> RequestRecord:
        """The end of a request, once: its savings, its row, its reservation given back. `now` is monotonic.

        An unknown price commits what was reserved.
        """
        if not exchange.admitted:
            return exchange.record(now)
        baseline = policy.baseline
        if baseline is not None:
            hit = exchange.hit
            served = exchange.usage if hit is None else hit.usage
            if exchange.outcome not in ("ok", "truncated", "client_disconnect"):
                served = None
            price = quotes.price(baseline, baseline.model or "")
            exchange.savings = savings(price, served, exchange.attempts, hit is not None)
        record = exchange.record(now)
        self.writer.close(record)
        charged, usage = record.cost_micro_usd, exchange.usage
        if charged is None:
            charged = record.reserved_micro_usd or 0
        tokens = usage.input + usage.output if usage is not None else 0
        self.accounts.settle(exchange.id, charged, tokens, self._wall())
        return record

    def spent(self) -> list[Spent]:
        """The budget windows that are open now, as far as this process knows them."""
        return self.accounts.snapshot(self._wall())

    def jobs(self) -> list[Coroutine[Any, Any, None]]:
        """What runs beside the requests until the end."""
        accounts = self.accounts
        if isinstance(accounts, EmbeddedAccounts):
            own = [_sweep(accounts, self._wall)]
        else:
            own = [accounts.run(), self._disown(accounts)]
        return [self.keyring.run(), *own, self._forget_old_rows()]

    async def _disown(self, accounts: "RedisAccounts") -> None:
        """Leases that earlier processes left are ended once the ledger has all that their journal knows."""
        while True:
            if self.writer.has_stored(0):
                return accounts.disown(self._owner, self.store.charged)
            await asyncio.sleep(SWEEP_S)

    async def _forget_old_rows(self) -> None:
        while True:
            try:
                swept = await asyncio.to_thread(sweep, self.database, self._wall(), self._keep)
            except DatabaseError as exc:
                log.warning("old rows are not deleted yet: %s", exc.message)
            else:
                if swept.rows:
                    log.info("deleted %d rows of more than %d days", swept.rows, self._keep.rows_days)
            await asyncio.sleep(RETENTION_S)

    async def aclose(self) -> None:
        """After the last request: rows are stored, leases are given back, files are closed."""
        if not isinstance(self.accounts, EmbeddedAccounts):
            await self.accounts.aclose()
        if not await asyncio.to_thread(self.writer.drain, DRAIN_S):
            log.warning("not all rows are stored yet; the next start replays them from the journal")
        with contextlib.suppress(DatabaseError):
            self.database.close()


async def _sweep(accounts: EmbeddedAccounts, wall: Callable[[], float]) -> None:
    """Ends leases that are over, also while no request comes."""
    while True:
        await asyncio.sleep(SWEEP_S)
        accounts.sweep(wall())
