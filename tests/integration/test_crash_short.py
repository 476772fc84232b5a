"""The crash suite in short: one of each fault, and the books are whole. `make test-crash` runs all of it."""

from tests.suites.crash import dependencies, scenarios
from tests.suites.crash.fixtures import say, world  # noqa: F401 - fixtures
from tests.support.postgres_server import postgres_server
from tests.support.redis_server import RedisServer

QUICK = {"FARTHING_GRACEFUL_SHUTDOWN_S": str(scenarios.GRACE_S)}


async def test_the_books_are_whole_after_sigkill_disconnects_and_sigterm(world):  # noqa: F811
    here = world(QUICK)
    await scenarios.sigkill(here, points=2)
    await scenarios.disconnects(here, points=3, each=1)
    await scenarios.sigterm(here, streams=30)


async def test_the_books_are_whole_after_redis_and_postgres_were_away(world, tmp_path):  # noqa: F811
    with RedisServer(tmp_path) as redis, postgres_server() as postgres, postgres.database() as database:
        here = world({"FARTHING_REDIS": redis.url, "FARTHING_DATABASE": database})
        try:
            await dependencies.redis_outages(here, redis, ["killed"], flushes=0)
            await dependencies.postgres_outages(here, postgres, ["killed"])
        finally:
            here.gateway.stop()


async def test_the_books_are_whole_after_the_journals_disk_was_full(world):  # noqa: F811
    here = world()
    with dependencies.small_disk(here.gateway.data / "journal") as ballast:
        try:
            await dependencies.journal_disk_full(here, ballast, restart=False)
        finally:
            here.gateway.stop()
