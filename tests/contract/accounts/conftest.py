"""Both stores behind one fixture; `--hypothesis-profile=money` runs the thousand schedules."""

import itertools

import pytest_asyncio
from hypothesis import HealthCheck, settings

from tests.support.account_worlds import EmbeddedWorld, RedisWorld

settings.register_profile("money", max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))

_serial = itertools.count()


@pytest_asyncio.fixture(params=["embedded", "redis"])
async def world(request):
    """A fresh store."""
    if request.param == "embedded":
        made = EmbeddedWorld()
    else:
        made = RedisWorld(request.getfixturevalue("redis_server").url, f"test{next(_serial)}")
    yield made
    await made.close()


@pytest_asyncio.fixture
async def redis_world(redis_server):
    made = RedisWorld(redis_server.url, f"test{next(_serial)}")
    yield made
    await made.close()
