"""The file behind the embedded store: damage, other versions, a disk that refuses, bounds at the start."""

import logging
import sqlite3

import pytest

from gateway.cache import file
from gateway.cache.embedded import EmbeddedStore
from gateway.cache.entry import Selector
from gateway.cache.store import StoreError
from tests.support.cache_stores import MEBI, NOW, digest, entry, unit


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache.db"


async def filled(path, count=20, **members):
    """A file with so many answers, each with a vector."""
    store = EmbeddedStore.open(path, 64 * MEBI, NOW)
    for number in range(count):
        await store.put(entry(str(number), **members), unit(1, number))
    await store.aclose()


async def held(path, max_bytes=64 * MEBI, now=NOW):
    """How many of the first 300 answers a store opened on the file has."""
    store = EmbeddedStore.open(path, max_bytes, now)
    found = [number for number in range(300) if await store.get(digest(str(number)), now)]
    await store.aclose()
    return found


async def test_a_file_that_is_no_database_is_moved_aside(path, caplog):
    path.write_bytes(b"not a database at all, but long enough to have a header" * 100)
    with caplog.at_level(logging.WARNING):
        assert await held(path) == []
    assert "moved to" in caplog.text
    assert path.with_name("cache.db.corrupt").read_bytes().startswith(b"not a database")
    await filled(path)
    assert len(await held(path)) == 20


async def test_a_file_with_damaged_pages_is_moved_aside(path, caplog):
    await filled(path, 200, body=b"x" * 3000)
    content = bytearray(path.read_bytes())
    content[8192:400_000] = b"\xa5" * (400_000 - 8192)
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert await held(path) == []
    assert "moved to" in caplog.text
    assert path.with_name("cache.db.corrupt").exists()


async def test_a_file_that_cannot_be_opened_leaves_a_store_in_memory(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        store = EmbeddedStore.open(tmp_path / "missing" / "cache.db", MEBI, NOW)
    assert "in memory only" in caplog.text
    await store.put(entry("a"), unit(1))
    assert await store.get(digest("a"), NOW) is not None
    assert await store.delete(Selector(tenant="acme")) == 1
    await store.aclose()


async def test_rows_of_another_version_are_dropped_and_the_others_kept(path):
    await filled(path, 3)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE entries_1 SET entry = ? WHERE seq = 2", (b"\x81\xa1a\x01",))
        database.execute("UPDATE entries_1 SET entry = ? WHERE seq = 3", (b"",))
    database.close()
    assert await held(path) == [0]
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM entries_1").fetchall() == [(1,)]
    database.close()


async def test_what_expired_meanwhile_is_not_loaded_and_leaves_the_file(path):
    await filled(path, 5, expires_s=NOW + 10)
    assert await held(path, now=NOW + 10) == []
    assert await held(path, now=NOW) == []


async def test_a_smaller_bound_loads_the_most_recent_and_the_rest_never_returns(path):
    await filled(path, 100, body=b"x" * 10_000)
    kept = await held(path, MEBI // 4)
    assert 10 < len(kept) < 30
    assert kept == list(range(100 - len(kept), 100))
    assert await held(path) == kept


async def test_a_delete_is_in_the_file_when_it_returns(path):
    store = EmbeddedStore.open(path, MEBI, NOW)
    await store.put(entry("a"), unit(1))
    await store.put(entry("b", tenant="other"), unit(1))
    await store.delete(Selector(tenant="acme"))
    beside = EmbeddedStore.open(path, MEBI, NOW)
    assert await beside.get(digest("a"), NOW) is None
    assert await beside.get(digest("b"), NOW) is not None
    await beside.aclose()
    await store.aclose()


async def test_evicted_and_swept_answers_leave_the_file_too(path):
    store = EmbeddedStore.open(path, MEBI // 4, NOW)
    for number in range(100):
        await store.put(entry(str(number), body=b"x" * 10_000, expires_s=NOW + 10 + number), None)
    await store.sweep(NOW + 90)
    left = (await store.stats()).entries
    await store.aclose()
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM entries_1").fetchall() == [(left,)]
    database.close()


async def test_a_disk_that_refuses_costs_durability_alone_and_fails_a_delete(path, caplog):
    store = EmbeddedStore.open(path, MEBI, NOW)
    await store.put(entry("a"), unit(1))
    await store.delete(Selector(id="nobody's"))  # it is in the file now
    with sqlite3.connect(path) as database:
        database.execute("CREATE TRIGGER refuse_puts BEFORE INSERT ON entries_1 BEGIN SELECT RAISE(ABORT, 'full'); END")
        database.execute(
            "CREATE TRIGGER refuse_deletes BEFORE DELETE ON entries_1 BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    with caplog.at_level(logging.WARNING):
        await store.put(entry("b"), unit(1))
        with pytest.raises(StoreError):
            await store.delete(Selector(exact=digest("a")))
    assert "in memory only" in caplog.text
    assert await store.get(digest("a"), NOW) is None
    assert await store.get(digest("b"), NOW) is not None
    database.execute("DROP TRIGGER refuse_puts")
    database.execute("DROP TRIGGER refuse_deletes")
    database.close()
    assert await store.delete(Selector(exact=digest("a"))) == 0
    await store.aclose()
    assert await held(path) == []
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM entries_1").fetchall() == [(0,)]
    database.close()


async def test_a_disk_that_is_too_slow_does_not_fill_the_memory(path, monkeypatch):
    monkeypatch.setattr(file, "BACKLOG", 5)
    store = EmbeddedStore.open(path, MEBI, NOW)
    for number in range(20):
        await store.put(entry(str(number)), unit(1))
    assert (await store.stats()).entries == 20
    assert await store.delete(Selector(exact=digest("19"))) == 1
    await store.aclose()
    assert await held(path) == [0, 1, 2, 3, 4]
