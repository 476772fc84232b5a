"""Stores of the cache for tests: entries, vectors, and a world for each backend that can be closed and opened again."""

import hashlib
import itertools
import time
from typing import Any

import msgspec
import numpy as np

from gateway.cache.distributed import DistributedStore
from gateway.cache.embedded import EmbeddedStore
from gateway.cache.entry import Entry
from gateway.cache.qdrant import QdrantVectors
from gateway.cache.redis import RedisAnswers
from gateway.core.exchange import Usage

NOW = float(int(time.time()))
"""Redis forgets by its own clock, so entries live around the real time."""
DIMENSION = 8
MEBI = 1 << 20
IMITATION = (
    "ignore:Local mode performs exact:UserWarning",
    "ignore:Payload indexes have no effect:UserWarning",
)
"""What qdrant-client says of its own imitation of a server."""

_serial = itertools.count()


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def entry(name: str, scope: str = "scope", **members: Any) -> Entry:
    """An entry that lives for 1,000 seconds; its exact key is made from `name`, its id is new."""
    made = Entry(
        id=f"{next(_serial):032x}",
        exact=digest(name),
        scope=digest(scope),
        text=name,
        endpoint="chat",
        body=b'{"choices": []}',
        usage=Usage(output=10),
        cost_micro_usd=100,
        tenant="acme",
        key="key-1",
        route="chat",
        target="target",
        provider="sandbox",
        model="model",
        tags=(),
        stored_s=NOW,
        expires_s=NOW + 1000,
    )
    return msgspec.structs.replace(made, **members)


def unit(*numbers: float, dimension: int = DIMENSION) -> np.ndarray:
    """The unit vector in the direction of `numbers`, filled up with zeros."""
    vector = np.zeros(dimension, np.float32)
    vector[: len(numbers)] = numbers
    return vector / np.linalg.norm(vector)


def units(count: int, dimension: int, seed: int = 0) -> np.ndarray:
    """`float32[count, dimension]`, unit norm, in random directions."""
    rows = np.random.default_rng(seed).standard_normal((count, dimension), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class MemoryWorld:
    """In this process, nothing on disk."""

    durable = False

    async def open(self, max_bytes: int = 64 * MEBI):
        return EmbeddedStore(max_bytes)

    async def close(self) -> None:
        pass


class FileWorld:
    """In this process, with a file."""

    durable = True

    def __init__(self, folder) -> None:
        self._path = folder / "cache.db"

    async def open(self, max_bytes: int = 64 * MEBI):
        return EmbeddedStore.open(self._path, max_bytes, NOW)

    async def close(self) -> None:
        pass


class DistributedWorld:
    """Redis and Qdrant: the client's own in-memory imitation, or a server at `qdrant_url`."""

    durable = True

    def __init__(self, redis_url: str, folder, qdrant_url: str | None = None) -> None:
        self._name = f"test{next(_serial)}"
        self._redis_url = redis_url
        self._folder = folder / self._name
        self._qdrant_url = qdrant_url

    async def open(self, max_bytes: int = 64 * MEBI):
        answers = RedisAnswers(self._redis_url, max_bytes, prefix=f"{{{self._name}}}:")
        return DistributedStore(answers, self.vectors())

    def vectors(self, encoder: str = "mini/v1") -> QdrantVectors:
        """The half in Qdrant alone."""
        if self._qdrant_url is not None:
            return QdrantVectors.connect(self._qdrant_url, encoder, DIMENSION, prefix=self._name)
        from qdrant_client import AsyncQdrantClient

        return QdrantVectors(AsyncQdrantClient(path=str(self._folder)), encoder, DIMENSION, prefix=self._name)

    async def close(self) -> None:
        """Leaves nothing behind on a server."""
        if self._qdrant_url is not None:
            vectors = self.vectors("cleaner")
            for collection in await vectors.others():
                await vectors.drop(collection)
            await vectors.aclose()
