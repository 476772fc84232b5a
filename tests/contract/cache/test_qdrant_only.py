"""What only the Qdrant half does: collections by encoder version, and points that outlived their answers."""

import pytest
from qdrant_client import AsyncQdrantClient

from gateway.cache.distributed import DistributedStore
from gateway.cache.entry import Selector
from gateway.cache.qdrant import QdrantVectors
from gateway.cache.redis import RedisAnswers
from gateway.cache.store import StoreError
from tests.support.cache_stores import DIMENSION, IMITATION, MEBI, NOW, digest, entry, unit

pytestmark = [pytest.mark.filterwarnings(line) for line in IMITATION]
SCOPE = digest("scope")


def vectors(client, encoder="mini/v1"):
    return QdrantVectors(client, encoder, DIMENSION)


async def test_each_encoder_version_has_its_own_collection_and_old_ones_are_dropped_by_name():
    client = AsyncQdrantClient(":memory:")
    old, new = vectors(client), vectors(client, "mini/v2")
    await old.put(entry("a"), unit(1))
    assert await new.nearest(SCOPE, unit(1), 4, NOW) == []
    await new.put(entry("b"), unit(1))
    assert [near.exact for near in await new.nearest(SCOPE, unit(1), 4, NOW)] == [digest("b")]
    assert await new.others() == [old.collection]
    with pytest.raises(ValueError, match="not an old collection"):
        await new.drop(new.collection)
    await new.drop(old.collection)
    assert await new.others() == []
    await client.close()


async def test_two_replicas_may_make_the_collection():
    client = AsyncQdrantClient(":memory:")
    for replica in (vectors(client), vectors(client)):
        await replica.ensure()
        await replica.put(entry("a"), unit(1))
    assert len(await vectors(client).nearest(SCOPE, unit(1), 4, NOW)) == 1
    await client.close()


async def test_a_point_whose_answer_is_gone_or_of_another_scope_is_never_a_neighbour(redis_server):
    answers = RedisAnswers(redis_server.url, MEBI, prefix="{orphans}:")
    store = DistributedStore(answers, vectors(AsyncQdrantClient(":memory:")))
    await store.put(entry("living"), unit(0, 1))
    await store.put(entry("gone"), unit(1))
    await answers.delete(Selector(exact=digest("gone")))
    await store.vectors.put(entry("living", scope="other"), unit(1))
    assert await store.nearest(digest("other"), unit(1), 4, NOW) == []
    assert await store.nearest(SCOPE, unit(1), 4, NOW) == []
    await store.aclose()


async def test_a_server_that_cannot_be_reached_is_an_error():
    found = QdrantVectors.connect("http://127.0.0.1:1", "mini/v1", DIMENSION, grpc_port=2)
    with pytest.raises(StoreError):
        await found.nearest(SCOPE, unit(1), 4, NOW)
    with pytest.raises(StoreError):
        await found.put(entry("a"), unit(1))
    await found.aclose()
