"""The one-way rule: core <- protocol <- policy, pricing <- the rooms <- pipeline <- http <- app <- cli."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "gateway"
RANK = {
    "core": 0,
    "protocol": 1,
    "policy": 2,
    "pricing": 2,
    "database": 2,
    "encoder": 2,
    "guarantee": 2,
    "certificates": 2,
    "commands": 2,
    "access": 3,
    "cache": 3,
    "dispatch": 3,
    "ledger": 3,
    "pool": 3,
    "rollout": 3,
    "routing": 3,
    "telemetry": 3,
    "pipeline": 4,
    "simulate": 4,
    "http": 5,
    "settings": 5,
    "discovery": 5,
    "welcome": 6,
    "books": 6,
    "caching": 6,
    "choosing": 6,
    "gauges": 6,
    "rolling": 6,
    "app": 7,
    "cli": 8,
}
HEAVY = (
    "onnxruntime",
    "qdrant_client",
    "sentence_transformers",
    "torch",
    "opentelemetry",
    "httpx",
    "pydantic",
    "yaml",
    "redis",
    "psycopg",
    "sqlite3",
    "pyarrow",
)
PURE = ("policy/table.py", "policy/compile.py", "dispatch/retry.py", "dispatch/verdict.py", "dispatch/breaker.py",
        "dispatch/codec.py", "pool/balance.py", "pricing/book.py", "pricing/hosted.py", "pricing/live.py",
        "pricing/worst_case.py", "pricing/content.py", "pricing/savings.py", "pricing/utilisation.py", "policy/limits.py",
        "access/windows.py", "access/buckets.py", "access/authority.py", "access/keystore.py", "access/refusals.py",
        "ledger/rows.py", "guarantee/bounds.py", "guarantee/certify.py", "guarantee/certificate.py", "guarantee/monitor.py",
        "guarantee/drift.py", "guarantee/sampling.py", "cache/keys.py", "cache/admission.py", "cache/controls.py",
        "cache/wording.py", "cache/replay.py", "cache/same.py", "cache/answers.py",
        "cache/doorkeeper.py", "policy/conditions.py", "policy/facts.py", "policy/patterns.py", "policy/choosing.py",
        "policy/resolve.py", "policy/compile_match.py", "protocol/texts.py", "routing/decide.py", "routing/caps.py",
        "routing/judge.py", "routing/judge_answers.py", "routing/neighbours.py", "protocol/own.py",
        "rollout/bucket.py", "rollout/state.py", "rollout/tally.py", "rollout/guard.py", "core/conditions.py", "rollout/show.py",
        "routing/shares.py", "routing/drift.py", "routing/costs.py", "routing/calibrate.py")  # fmt: skip


def room(module: str) -> str:
    return module.split(".")[1]


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found += (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "gateway" else [node.module]
            )
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return found


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE or path.name != "__init__.py"]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imports(path):
        if module.startswith("gateway.") and module != "gateway.__version__":
            assert RANK[room(module)] <= RANK[own], f"{own} imports {module}"
            assert room(module) != "app" or own in ("app", "cli")


def test_every_room_has_a_rank():
    assert {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules()} <= set(RANK)


@pytest.mark.parametrize("name", PURE)
def test_decisions_do_no_io(name):
    path = PACKAGE / name
    source = path.read_text()
    assert not {"asyncio", "socket", "os", "time", "random", "httpx"} & {m.split(".")[0] for m in imports(path)}
    assert "await " not in source


def test_only_settings_reads_the_environment():
    readers = [path.name for path in modules() if "os.environ" in path.read_text() or "getenv" in path.read_text()]
    assert readers == ["settings.py"]


def test_importing_the_package_is_light():
    code = f"import sys, gateway, gateway.pipeline; print([m for m in {HEAVY!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_a_gateway_that_serves_loads_what_it_needs_alone():
    optional = (
        "numpy",
        "onnxruntime",
        "tokenizers",
        "qdrant_client",
        "torch",
        "httpx",
        "redis",
        "psycopg",
        "opentelemetry",
    )
    code = (
        "import sys; from gateway import cli; cli._parser(['serve']); import gateway.app;"
        f"print([m for m in {optional!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
