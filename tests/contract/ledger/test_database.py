"""The databases under the ledger when they do not answer."""

import time

import pytest

from gateway.database import DatabaseError, open_database


@pytest.fixture
def impatient(postgres_url):
    database = open_database(postgres_url, timeout_s=1)
    yield database
    database.close()


def test_a_frozen_server_fails_reads_and_writes_in_time(postgres, impatient):
    assert impatient.query("SELECT 1") == [(1,)]
    postgres.freeze()
    try:
        for act in (lambda: impatient.query("SELECT 1"), lambda: write(impatient, "SELECT 1")):
            began = time.monotonic()
            with pytest.raises(DatabaseError, match="no answer within 2 s"):
                act()
            assert time.monotonic() - began < 4
    finally:
        postgres.thaw()
    assert impatient.query("SELECT 1") == [(1,)]
    write(impatient, "SELECT 1")


def test_a_server_that_freezes_inside_a_transaction_fails_it(postgres, impatient):
    write(impatient, "CREATE TABLE t (n BIGINT)")
    with pytest.raises(DatabaseError, match="no answer within 2 s"):
        with impatient.transaction() as cursor:
            cursor.executemany("INSERT INTO t VALUES (?)", [(1,)])
            postgres.freeze()
            try:
                cursor.executemany("INSERT INTO t VALUES (?)", [(2,)] * 100)
            finally:
                postgres.thaw()
    assert impatient.query("SELECT COUNT(*) FROM t") == [(0,)]


def test_reads_do_not_notice_that_the_server_was_started_again(postgres, impatient):
    assert impatient.query("SELECT 1") == [(1,)]
    postgres.stop()
    postgres.start()
    assert impatient.query("SELECT 1") == [(1,)]


def test_a_slow_statement_fails_and_keeps_the_connection(impatient):
    before = impatient.query("SELECT pg_backend_pid()")
    with pytest.raises(DatabaseError, match="statement timeout"):
        impatient.query("SELECT pg_sleep(10)")
    assert impatient.query("SELECT pg_backend_pid()") == before


def test_a_file_that_another_process_writes_to_fails_in_time(tmp_path):
    url = f"sqlite:///{tmp_path}/shared.db"
    one, other = open_database(url, timeout_s=0.2), open_database(url, timeout_s=0.2)
    write(one, "CREATE TABLE t (n BIGINT)")
    with one.transaction() as cursor:
        cursor.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(DatabaseError, match="locked"):
            write(other, "INSERT INTO t VALUES (2)")
        assert other.query("SELECT COUNT(*) FROM t") == [(0,)]
    write(other, "INSERT INTO t VALUES (2)")
    assert one.query("SELECT COUNT(*) FROM t") == [(2,)]
    one.close()
    other.close()


def write(database, sql: str) -> None:
    with database.transaction() as cursor:
        cursor.execute(sql)
