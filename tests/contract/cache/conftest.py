"""Every store behind one fixture. `--qdrant URL` (the server's HTTP address) adds a real Qdrant server."""

import pytest
import pytest_asyncio

from tests.support.cache_stores import DistributedWorld, FileWorld, MemoryWorld


def pytest_addoption(parser):
    parser.addoption(
        "--qdrant", default=None, help="a Qdrant server for the cache's contract suite, e.g. http://host:6333"
    )


@pytest.fixture(params=["memory", "file", "redis and local qdrant", "redis and qdrant server"])
def make_world(request, tmp_path):
    """Makes worlds that share nothing."""
    if request.param == "memory":
        return MemoryWorld
    if request.param == "file":
        numbers = iter(range(10_000))

        def in_folder():
            folder = tmp_path / str(next(numbers))
            folder.mkdir()
            return FileWorld(folder)

        return in_folder
    url = request.config.getoption("--qdrant", default=None)
    if request.param == "redis and qdrant server" and url is None:
        pytest.skip("no Qdrant server: pytest tests/contract/cache --qdrant URL")
    server = request.getfixturevalue("redis_server")
    return lambda: DistributedWorld(server.url, tmp_path, url if request.param.endswith("server") else None)


@pytest_asyncio.fixture
async def world(make_world):
    made = make_world()
    yield made
    await made.close()


@pytest_asyncio.fixture
async def store(world):
    opened = await world.open()
    yield opened
    await opened.aclose()
