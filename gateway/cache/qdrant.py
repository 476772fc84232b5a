"""Vectors of many replicas in a Qdrant server: which answers' texts are near, inside one scope.

Fails open: whatever goes wrong is a `StoreError`. Holds no answers (see `distributed`). One collection for each encoder
version and dimension, partitioned by payload as Qdrant advises for many tenants: `scope` is the tenant index, graphs
are built per scope (`m=0`, `payload_m=16`) and only for it, vectors are quantised to int8 and rescored.
"""

import asyncio
import contextlib
import re
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import grpc  # type: ignore[import-untyped]
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException

from gateway.cache.entry import Entry, Selector
from gateway.cache.store import StoreError

if TYPE_CHECKING:
    from gateway.cache.store import Vector

TIMEOUT_S = 10
"""For administration; look-ups have a shorter deadline of their own (see `guarded`)."""
OVERSAMPLING = 2.0
_FLAGS = ("tenant", "route", "tags", "exact", "id")


class Near(NamedTuple):
    """A point near the query: the exact key of its answer, and the cosine."""

    exact: str
    similarity: float


class QdrantVectors:
    """Points by the exact key of their answers. `client` is closed with it."""

    def __init__(self, client: AsyncQdrantClient, encoder: str, dimension: int, *, prefix: str = "farthing") -> None:
        """`encoder` names the version of what makes the vectors; another one uses another collection."""
        self._client = client
        self._prefix = prefix + "_"
        self.collection = f"{prefix}_{re.sub(r'[^A-Za-z0-9.-]', '-', encoder)}_{dimension}"
        self._dimension = dimension
        self._ready = False
        self._making = asyncio.Lock()

    @classmethod
    def connect(
        cls,
        url: str,
        encoder: str,
        dimension: int,
        *,
        api_key: str | None = None,
        grpc_port: int = 6334,
        prefix: str = "farthing",
    ) -> "QdrantVectors":
        """The server at `url` (its HTTP address), spoken to by gRPC; connects when first used."""
        client = AsyncQdrantClient(
            url=url,
            grpc_port=grpc_port,
            prefer_grpc=True,
            api_key=api_key,
            timeout=TIMEOUT_S,
            check_compatibility=False,  # would call the server here, blocking
        )
        return cls(client, encoder, dimension, prefix=prefix)

    async def nearest(self, scope: str, vector: "Vector", limit: int, now: float) -> list[Near]:
        """At most `limit` unexpired points of this scope, the most similar first."""
        with _translated():
            if not self._ready and not await self._client.collection_exists(self.collection):
                return []
            answer = await self._client.query_points(
                self.collection,
                query=vector.tolist(),
                query_filter=models.Filter(
                    must=[
                        _equals("scope", scope),
                        models.FieldCondition(key="expires", range=models.Range(gt=now)),
                    ]
                ),
                search_params=models.SearchParams(
                    quantization=models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING)
                ),
                limit=limit,
                with_payload=["exact", "scope"],
            )
        points = [(point.payload or {}, point.score) for point in answer.points]
        return [Near(payload["exact"], score) for payload, score in points if payload.get("scope") == scope]

    async def put(self, entry: Entry, vector: "Vector") -> None:
        """Replaces the point of the same exact key."""
        await self.ensure()
        payload = {
            "scope": entry.scope,
            "exact": entry.exact,
            "id": entry.id,
            "tenant": entry.tenant,
            "route": entry.route,
            "tags": list(entry.tags),
            "expires": entry.expires_s,
        }
        point = models.PointStruct(id=_point(entry.exact), vector=vector.tolist(), payload=payload)
        with _translated():
            await self._client.upsert(self.collection, [point])

    async def forget(self, exact: str) -> None:
        """Removes the point of this exact key, if there is one."""
        await self.ensure()
        with _translated():
            await self._client.delete(self.collection, models.PointIdsList(points=[_point(exact)]))

    async def delete(self, selector: Selector) -> None:
        """Removes the points of all entries that match, also of those whose answers are gone."""
        given = [
            _equals("tags" if field == "tag" else field, value)
            for field in ("tenant", "tag", "route", "exact", "id")
            if (value := getattr(selector, field)) is not None
        ]
        if not selector.empty:
            await self._delete_where(models.Filter(must=[*given]))

    async def sweep(self, now: float) -> None:
        """Removes the points that have expired."""
        expired = models.FieldCondition(key="expires", range=models.Range(lte=now))
        await self._delete_where(models.Filter(must=[expired]))

    async def ensure(self) -> None:
        """Makes the collection and its indexes where they are missing; replicas may do so at once."""
        async with self._making:
            if not self._ready:
                with _translated():
                    await self._make()
                self._ready = True

    async def others(self) -> list[str]:
        """Collections of other encoders' versions: left by an upgrade, or in use by replicas not yet upgraded."""
        with _translated():
            found = (await self._client.get_collections()).collections
        return sorted(c.name for c in found if c.name.startswith(self._prefix) and c.name != self.collection)

    async def drop(self, collection: str) -> None:
        """Deletes one of `others`. Raises `ValueError` for another name."""
        if collection not in await self.others():
            raise ValueError(f"{collection} is not an old collection of this cache")
        with _translated():
            await self._client.delete_collection(collection)

    async def aclose(self) -> None:
        """Closes the client."""
        with _translated():
            await self._client.close()

    async def _make(self) -> None:
        if not await self._client.collection_exists(self.collection):
            try:
                await self._create()
            except (grpc.RpcError, ApiException, ValueError):
                if not await self._client.collection_exists(self.collection):  # else another replica made it
                    raise
        for field, schema in _indexes().items():
            await self._client.create_payload_index(self.collection, field, schema)

    async def _create(self) -> None:
        await self._client.create_collection(
            self.collection,
            vectors_config=models.VectorParams(size=self._dimension, distance=models.Distance.COSINE),
            hnsw_config=models.HnswConfigDiff(m=0, payload_m=16),
            quantization_config=models.ScalarQuantization(
                scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
            ),
        )

    async def _delete_where(self, condition: models.Filter) -> None:
        await self.ensure()
        with _translated():
            await self._client.delete(self.collection, models.FilterSelector(filter=condition))


def _indexes() -> dict[str, models.KeywordIndexParams | models.FloatIndexParams]:
    """Only `scope` gets graphs: look-ups filter by it, the other fields serve deletion."""
    keyword, number = models.KeywordIndexType.KEYWORD, models.FloatIndexType.FLOAT
    flags = {field: models.KeywordIndexParams(type=keyword, enable_hnsw=False) for field in _FLAGS}
    return {
        "scope": models.KeywordIndexParams(type=keyword, is_tenant=True),
        "expires": models.FloatIndexParams(type=number, enable_hnsw=False),
        **flags,
    }


def _equals(field: str, value: str) -> models.FieldCondition:
    return models.FieldCondition(key=field, match=models.MatchValue(value=value))


def _point(exact: str) -> str:
    """The point's id: the first half of the digest as a UUID."""
    return str(uuid.UUID(exact[:32]))


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """What Qdrant or the network does wrong, as `StoreError`."""
    try:
        yield
    except (grpc.RpcError, ApiException, QdrantException, OSError, ValueError) as exc:
        detail = exc.details() if isinstance(exc, grpc.aio.AioRpcError) else exc
        raise StoreError(f"the cache's Qdrant: {detail or type(exc).__name__}") from exc
