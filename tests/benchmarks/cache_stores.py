"""What a look-up, a put and a start cost: the embedded store of the cache, and Qdrant Edge where it is importable.

`python -m tests.benchmarks.cache_stores [--sizes 1000,10000] [--scopes 1,20,200] [--folder DIR] [--json]`. Each
combination runs in a process of its own. Vectors are 384 random directions, queries are noisy copies of stored ones
(cosine about 0.85), bodies are 1,000 random bytes. Qdrant Edge is given vectors, scopes and nothing else. Durations are
wall time: run it on an idle machine. `recall` is how often the nearest by brute force came first.
"""

import argparse
import asyncio
import importlib.util
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

DIMENSION = 384
LIMIT = 4
QUERIES = 1000
BACKENDS = ("matrices", "edge")


def resident_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def percentiles(name: str, seconds: list[float]) -> dict[str, float]:
    seconds = sorted(seconds)
    return {
        f"{name}_p50_ms": round(seconds[len(seconds) // 2] * 1e3, 4),
        f"{name}_p99_ms": round(seconds[int(len(seconds) * 0.99)] * 1e3, 4),
    }


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = act()
    return time.perf_counter() - start, result


def vectors(size: int) -> np.ndarray:
    """`float32[size, 384]`, unit norm; row i belongs to scope i modulo the number of scopes."""
    rows = np.random.default_rng(1).standard_normal((size, DIMENSION), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def questions(rows: np.ndarray, count: int) -> list[tuple[int, np.ndarray]]:
    """Places of stored vectors, each with a noisy copy."""
    rng = np.random.default_rng(2)
    picked = rng.integers(0, len(rows), count)
    noisy = rows[picked] + rng.standard_normal((count, DIMENSION), dtype=np.float32) * np.float32(0.62 / DIMENSION**0.5)
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    return list(zip(picked.tolist(), noisy, strict=True))


async def matrices(size: int, scopes: int, folder: Path) -> dict[str, float]:
    from gateway.cache.embedded import EmbeddedStore
    from gateway.cache.entry import Selector
    from tests.support.cache_stores import NOW, digest, entry

    rows, rng, path = vectors(size), np.random.default_rng(3), folder / "cache.db"
    asked = questions(rows, QUERIES)
    ids = [digest(str(number)) for number in range(scopes)]
    before = resident_mib()
    store = EmbeddedStore.open(path, 1 << 40, NOW)
    puts = []
    for number in range(size):
        made = entry(str(number), scope=str(number % scopes), body=rng.bytes(1000))
        start = time.perf_counter()
        await store.put(made, rows[number])
        puts.append(time.perf_counter() - start)
        if number % 2000 == 1999:
            await store.delete(Selector(id="none"))  # waits until all of it is in the file
    del made
    stats = await store.stats()
    start = time.perf_counter()
    await store.aclose()
    drained = time.perf_counter() - start
    looks, gets, right, cpu = [], [], 0, time.thread_time()
    for place, query in asked:
        await store.nearest(ids[place % scopes], query, LIMIT, NOW)
    cpu = time.thread_time() - cpu
    for place, query in asked:
        start = time.perf_counter()
        found = await store.nearest(ids[place % scopes], query, LIMIT, NOW)
        looks.append(time.perf_counter() - start)
        right += found[0].entry.text == str(place)
        exact = digest(str(place))
        start = time.perf_counter()
        await store.get(exact, NOW)
        gets.append(time.perf_counter() - start)
    measured = {
        **percentiles("look", looks),
        "look_cpu_ms": round(cpu / len(asked) * 1e3, 4),
        **percentiles("get", gets),
        **percentiles("put", puts),
        "recall": right / len(asked),
        "rss_mib": round(resident_mib() - before),
        "counted_mib": round(stats.bytes / 2**20),
        "drain_s": round(drained, 2),
        "disk_mib": round(path.stat().st_size / 2**20),
    }
    del store, found
    took, store = timed(lambda: EmbeddedStore.open(path, 1 << 40, NOW))
    assert (await store.stats()).entries == size
    measured["load_s"] = round(took, 2)
    await store.aclose()
    return measured


async def edge(size: int, scopes: int, folder: Path) -> dict[str, float]:
    from qdrant_edge import (
        Distance,
        EdgeConfig,
        EdgeShard,
        EdgeVectorParams,
        FieldCondition,
        Filter,
        KeywordIndexParams,
        MatchValue,
        Point,
        Query,
        QueryRequest,
        UpdateOperation,
    )

    rows, path = vectors(size), folder / "shard"
    path.mkdir()
    asked = questions(rows, QUERIES)
    before = resident_mib()
    shard = EdgeShard.create(str(path), EdgeConfig(vectors=EdgeVectorParams(size=DIMENSION, distance=Distance.Cosine)))
    shard.update(UpdateOperation.create_field_index("scope", KeywordIndexParams(is_tenant=True)))
    puts = []
    for number in range(size):
        point = Point(number, rows[number].tolist(), {"scope": str(number % scopes)})
        took, _ = timed(lambda point=point: shard.update(UpdateOperation.upsert_points([point])))
        puts.append(took)
    flush_s, _ = timed(shard.flush)

    def ask() -> tuple[list[float], int]:
        looks, right = [], 0
        for place, query in asked:
            within = Filter(must=[FieldCondition("scope", match=MatchValue(str(place % scopes)))])
            request = QueryRequest(limit=LIMIT, query=Query.Nearest(query.tolist()), filter=within)
            took, found = timed(lambda request=request: shard.query(request))
            looks.append(took)
            right += found[0].id == place
        return looks, right

    plain, _ = ask()
    optimize_s, _ = timed(shard.optimize)
    looks, right = ask()
    measured = {
        **percentiles("look", looks),
        **{f"unoptimized_{name}": value for name, value in percentiles("look", plain).items()},
        **percentiles("put", puts),
        "recall": right / len(asked),
        "rss_mib": round(resident_mib() - before),
        "flush_s": round(flush_s, 2),
        "optimize_s": round(optimize_s, 2),
    }
    shard.close()
    measured["disk_mib"] = round(sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 2**20)
    took, shard = timed(lambda: EdgeShard.load(str(path)))
    measured["load_s"] = round(took, 2)
    shard.close()
    return measured


def measure(backend: str, size: int, scopes: int, parent: str | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=parent) as name:
        run = {"matrices": matrices, "edge": edge}[backend]
        return {"backend": backend, "size": size, "scopes": scopes, **asyncio.run(run(size, scopes, Path(name)))}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--scopes", default="1,20,200")
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--folder", default=None)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    for backend in options.backends.split(","):
        if backend == "edge" and importlib.util.find_spec("qdrant_edge") is None:
            print("edge: not installed (pip install qdrant-edge-py)")
            continue
        for size in map(int, options.sizes.split(",")):
            for scopes in map(int, options.scopes.split(",")):
                with spawn.Pool(1) as pool:
                    row = pool.apply(measure, (backend, size, scopes, options.folder))
                if options.json:
                    print(msgspec.json.encode(row).decode(), flush=True)
                else:
                    print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
