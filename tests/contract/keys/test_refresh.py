"""A keyring over a real store: what one replica changes, the others see, also while the store comes and goes."""

import asyncio
import contextlib
import signal
import time

import pytest

from gateway.access.keyring import Keyring, KeysUnavailable
from gateway.access.keys_database import KeyStore
from gateway.access.keystore import KeyLimits, digest
from gateway.core.clock import SystemClock
from gateway.core.errors import Unauthorized
from gateway.database import DatabaseError, open_database
from tests.support.keys import NOW, ROOT, HandClock, draft, new_admin, per_month
from tests.support.postgres_server import postgres_server


@contextlib.asynccontextmanager
async def running(*keyrings):
    tasks = [asyncio.create_task(keyring.run()) for keyring in keyrings]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition, limit_s=10.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def refused(keyring, sha256):
    try:
        return keyring.find(sha256) is None
    except Unauthorized:
        return True


async def test_a_revocation_is_seen_by_every_replica_in_under_a_second(open_store):
    author = open_store()
    record, made = author.create_key(draft(), ROOT, time.time())
    replicas = [Keyring(open_store(), SystemClock()) for _ in range(2)]
    for keyring in replicas:
        keyring.refresh()
    async with running(*replicas):
        assert not any(refused(keyring, made.sha256) for keyring in replicas)
        started = time.monotonic()
        await asyncio.to_thread(author.revoke_key, record.id, ROOT, time.time())
        await until(lambda: all(refused(keyring, made.sha256) for keyring in replicas))
        assert time.monotonic() - started < 1.0


def test_a_refresh_brings_keys_tenants_and_credentials(open_store):
    author, keyring = open_store(), Keyring(open_store(), HandClock())
    keyring.refresh()
    assert keyring.empty
    record, made = author.create_key(draft(rpm=7), ROOT, NOW)
    author.put_tenant("shop", KeyLimits(tpm=9, budgets=per_month(5)), {}, ROOT, NOW)
    admin, secret = new_admin(author, "admin")
    assert keyring.refresh()
    assert not keyring.refresh(), "nothing has changed since"
    held = keyring.find(made.sha256)
    assert held is keyring.by_id[record.id]
    assert [rate.per_minute for rate in held.applies.rates] == [7, 9]
    assert [budget.id for budget in held.applies.budgets] == ["tenant:shop/month"]
    assert keyring.find_admin(secret).id == admin.id
    author.revoke_admin(admin.id, ROOT, NOW)
    keyring.refresh()
    assert keyring.find_admin(secret) is None


def test_an_older_state_of_the_database_put_back_is_read_anew(tmp_path):
    clock = HandClock()
    with contextlib.closing(KeyStore(open_database(f"sqlite:///{tmp_path}/new.db"))) as new:
        for _ in range(3):
            _, gone = new.create_key(draft(), ROOT, NOW)
        keyring = Keyring(new, clock)
        keyring.refresh()
        with contextlib.closing(KeyStore(open_database(f"sqlite:///{tmp_path}/old.db"))) as old:
            _, back = old.create_key(draft(), ROOT, NOW)
            keyring._store = old
            keyring.refresh()
    assert keyring.find(gone.sha256) is None
    assert keyring.find(back.sha256) is not None


def test_a_server_that_dies_leaves_the_last_view_for_a_while_then_nothing():
    clock = HandClock()
    with (
        postgres_server() as server,
        server.database() as url,
        contextlib.closing(KeyStore(open_database(url, timeout_s=2))) as store,
    ):
        _, made = store.create_key(draft(), ROOT, NOW)
        keyring = Keyring(store, clock, max_stale_s=60)
        keyring.refresh()
        server.stop(signal.SIGQUIT)
        clock.advance(59)
        with pytest.raises(DatabaseError):
            keyring.refresh()
        assert keyring.find(made.sha256) is not None, "the last view serves"
        clock.advance(2)
        with pytest.raises(KeysUnavailable):
            keyring.find(made.sha256)
        with pytest.raises(KeysUnavailable):
            keyring.find(digest("unknown"))
        server.start()
        keyring.refresh()
        assert keyring.find(made.sha256) is not None
