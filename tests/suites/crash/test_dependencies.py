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


async def test_leases_of_a_killed_gateway_are_over_in_time(world, redis_server, say, request):
    points = max(2, request.config.getoption("--points") // 10)
    killed = world({"FARTHING_REDIS": redis_server.url}, total_s=TOTAL_S)
    say(await dependencies.redis_and_sigkill(killed, redis_server, points, TOTAL_S))


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
