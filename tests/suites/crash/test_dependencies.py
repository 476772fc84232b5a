"""What the gateway depends on freezes, dies, forgets or is full: requests are refused or go on, and the books are whole."""

import pytest

from tests.suites.crash import dependencies
from tests.support.postgres_server import postgres_server
from tests.support.redis_server import RedisServer

TOTAL_S = 3
"""Deadline of a request where leases are waited for."""


@pytest.fixture
def redis_server(tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def postgres():
    with postgres_server() as server:
        yield server


@pytest.fixture
def database(postgres):
    with postgres.database() as url:
        yield url


async def test_redis_frozen_killed_or_flushed_neither_loses_nor_doubles_a_cent(world, redis_server, say):
    say(await dependencies.redis_outages(world({"FARTHING_REDIS": redis_server.url}), redis_server))


async def test_redis_flushed_without_the_ledger_forgets_no_spending(world, redis_server, postgres, database, say):
    here = world({"FARTHING_REDIS": redis_server.url, "FARTHING_DATABASE": database})
    say(await dependencies.redis_flushed_without_postgres(here, redis_server, postgres))


async def test_a_killed_gateway_ends_its_leases_at_its_next_start(world, redis_server, say, request):
    points = max(2, request.config.getoption("--points") // 10)
    say(await dependencies.redis_and_sigkill(world({"FARTHING_REDIS": redis_server.url}), redis_server, points))


async def test_a_gateway_killed_while_redis_is_away_owes_it_nothing_after_its_next_start(world, redis_server, say):
    say(await dependencies.redis_away_and_sigkill(world({"FARTHING_REDIS": redis_server.url}), redis_server))


async def test_the_leases_of_a_replica_that_stays_dead_are_over_in_time(world, redis_server, database, say):
    env = {"FARTHING_REDIS": redis_server.url, "FARTHING_DATABASE": database, "FARTHING_REPLICAS": "2"}
    say(await dependencies.redis_and_a_dead_replica(world(env, total_s=TOTAL_S, replicas=2), redis_server, TOTAL_S))


async def test_postgres_frozen_or_killed_delays_rows_and_loses_none(world, postgres, database, say):
    say(await dependencies.postgres_outages(world({"FARTHING_DATABASE": database}), postgres))


async def test_a_gateway_killed_while_postgres_is_away_replays_its_journal(world, postgres, database, say):
    say(await dependencies.postgres_and_sigkill(world({"FARTHING_DATABASE": database}), postgres))


async def test_a_full_disk_under_the_journal_refuses_requests_and_loses_no_row(world, say):
    here = world()
    with dependencies.small_disk(here.gateway.data / "journal") as ballast:
        say(await dependencies.journal_disk_full(here, ballast))
        here.gateway.stop()


async def test_a_full_disk_under_the_database_delays_rows_and_loses_none(world, tmp_path, say):
    with dependencies.small_disk(tmp_path / "small") as ballast:
        here = world({"FARTHING_DATABASE": f"sqlite:///{tmp_path}/small/farthing.db"})
        say(await dependencies.database_disk_full(here, ballast))
        here.gateway.stop()
