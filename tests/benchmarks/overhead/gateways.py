"""What is compared: how each gateway is found, configured for the stub and started; knows nothing of measuring."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway.access.authority import Actor
from gateway.access.keys_database import KeyStore
from gateway.access.keystore import KeyDraft
from gateway.database import open_database
from tests.benchmarks.overhead.machine import free_port

FARTHING = "farthing"
BOOKS = "farthing-books"
CROWD = "farthing-crowd"
"""With books; and with books, 10,000 keys in use and 1,000 budgets, one for each tenant of theirs."""
WITH_BOOKS = (BOOKS, CROWD)
NGINX = "nginx"
SGLANG = "sglang-router"
LITELLM = "litellm"
DIRECT = "direct"
"""The stub with nothing in front of it: what the load side alone can do."""
TENANT = "bench"
CROWD_KEYS, CROWD_TENANTS = 10_000, 1_000
KEY = "sk-overhead-bench-0123456789"
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Gateway:
    """One gateway, set up for one run.

    `ready_path` answers 200 once it serves (`None`: it has no such path); `answered` is the counter in its /metrics
    that shows that it recorded every request (`None`: not looked at).
    """

    name: str
    command: Sequence[str]
    port: int
    env: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=lambda: {"authorization": f"Bearer {KEY}"})
    ready_path: str | None = None
    answered: str | None = None
    credentials: Path | None = None
    """A file of `authorization` values, one a line, that the load sends in turn instead of that of `headers`."""


@dataclass(frozen=True)
class Entry:
    """A gateway that this program knows: `find` gives its version, `None` where it is not installed."""

    name: str
    install: str
    find: Callable[[], str | None]
    configure: Callable[[int, Path], Gateway]
    """From the stub's port and an empty folder of its own."""


def entries(peers: Path, farthing: Path | None = None) -> dict[str, Entry]:
    """Everything that can be compared, by name; `peers` is the folder that they were installed in."""
    found = farthing or _farthing()
    portkey = peers / "node_modules/@portkey-ai/gateway"
    known = (
        Entry(
            FARTHING,
            "make install, or --farthing PATH",
            lambda: _output([str(found), "--version"]) if found else None,
            lambda stub, run: _configure_farthing(str(found), stub, run),
        ),
        *(
            Entry(
                name,
                "make install, or --farthing PATH",
                lambda: _output([str(found), "--version"]) if found else None,
                lambda stub, run, crowd=crowd: _configure_books(str(found), stub, run, crowd=crowd),  # type: ignore[misc]
            )
            for name, crowd in ((BOOKS, False), (CROWD, True))
        ),
        Entry(NGINX, "apt install nginx-light", _nginx_version, _configure_nginx),
        Entry(
            SGLANG,
            f"python3 -m venv {peers}/sgl && {peers}/sgl/bin/pip install sglang-router",
            lambda: _installed(peers / "sgl", "sglang_router"),
            lambda stub, _: _configure_sglang(peers, stub),
        ),
        Entry(
            "smg",
            f"python3 -m venv {peers}/smg && {peers}/smg/bin/pip install smg",
            lambda: _installed(peers / "smg", "smg"),
            lambda stub, _: _configure_smg(peers, stub),
        ),
        Entry(
            "portkey",
            f"cd {peers} && npm install @portkey-ai/gateway",
            lambda: _npm_version(portkey),
            lambda stub, _: _configure_portkey(portkey, stub),
        ),
        Entry(
            LITELLM,
            f"python3 -m venv {peers}/litellm && {peers}/litellm/bin/pip install 'litellm[proxy]'",
            lambda: _installed(peers / "litellm", "litellm"),
            lambda stub, run: _configure_litellm(peers, stub, run),
        ),
    )
    return {entry.name: entry for entry in known}


def _configure_farthing(binary: str, stub: int, run: Path) -> Gateway:
    """Callers' keys, a route, a price; metrics and records are always on. No ledger and no budgets."""
    policies = _policies(stub, run, [TENANT], f"keys: {{bench: {{tenant: {TENANT}, secret: env:BENCH_KEY}}}}")
    return _farthing_on(FARTHING, binary, policies, {"BENCH_KEY": KEY, "FARTHING_DATABASE": "none"}, KEY)


def _configure_books(binary: str, stub: int, run: Path, *, crowd: bool) -> Gateway:
    """Stored keys; three budgets, two rates and a concurrency that apply to each; the ledger on SQLite."""
    tenants = [f"{TENANT}{i}" for i in range(CROWD_TENANTS)] if crowd else [TENANT]
    budgets = "".join(f"  - {{scope: tenant:{name}, limit: $1000000/month}}\n" for name in tenants)
    policies = _policies(
        stub,
        run,
        tenants,
        f"""\
baseline: stub
budgets:
{budgets}  - {{scope: key, limit: $1000000/day}}
  - {{scope: all, limit: $1000000/total}}
limits:
  - {{scope: key, requests: 10M/min, tokens: 1000M/min, concurrent: 10k}}
""",
    )
    data = run / "data"
    data.mkdir()
    secrets = _stored_keys(data, tenants, CROWD_KEYS if crowd else 1)
    name, env = (CROWD if crowd else BOOKS), {"FARTHING_DATA_DIR": str(data)}
    gateway = _farthing_on(name, binary, policies, env, secrets[0])
    if not crowd:
        return gateway
    credentials = run / "credentials"
    credentials.write_text("".join(f"Bearer {secret}\n" for secret in secrets))
    return replace(gateway, credentials=credentials)


def _stored_keys(data: Path, tenants: Sequence[str], count: int) -> list[str]:
    """The secrets of so many keys of these tenants in turn."""
    database = open_database(f"sqlite:///{data}/farthing.db")
    store, actor = KeyStore(database), Actor("cli:bench")
    drafts = [KeyDraft(name=f"bench {number}", tenant=tenants[number % len(tenants)]) for number in range(count)]
    secrets = [store.create_key(draft, actor, time.time())[1].secret for draft in drafts]
    database.close()
    return secrets


def _policies(stub: int, run: Path, tenants: Sequence[str], more: str) -> Path:
    policies = run / "policies"
    policies.mkdir()
    (policies / "policy.yaml").write_text(f"""\
version: 1
targets:
  stub:
    provider: openai_compatible
    base_url: http://127.0.0.1:{stub}/v1
    self_hosted: true
    price: {{input: 0.15, output: 0.60, cached: 0.075}}
routes:
  - name: bench
    match: {{models: [stub], tenants: [{", ".join(tenants)}]}}
    target: stub
{more}
""")
    return policies


def _farthing_on(name: str, binary: str, policies: Path, env: Mapping[str, str], secret: str) -> Gateway:
    port = free_port()
    return Gateway(
        name,
        [binary, "serve", "--host", "127.0.0.1", "--port", str(port), "--policies", str(policies)],
        port,
        env={**_package(), **env},
        headers={"authorization": f"Bearer {secret}"},
        ready_path="/health/ready",
        answered="farthing_requests_total",
    )


def _package() -> dict[str, str]:
    """The package that PYTHONPATH names, such as the compiled one, also from another working directory."""
    paths = [str(Path(path).resolve()) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {"PYTHONPATH": os.pathsep.join(paths)} if paths else {}


def _configure_nginx(stub: int, run: Path) -> Gateway:
    port = free_port()
    scratch = "".join(f" {kind}_temp_path {run}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    config = run / "nginx.conf"
    config.write_text(f"""\
worker_processes 1; daemon off; pid {run}/nginx.pid; error_log {run}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {run}/body;{scratch}
  upstream stub {{ server 127.0.0.1:{stub}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    keepalive_requests 100000000;
    location / {{
      proxy_pass http://stub; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
""")
    return Gateway(NGINX, [_nginx() or "nginx", "-e", f"{run}/error.log", "-c", str(config)], port)


def _configure_sglang(peers: Path, stub: int) -> Gateway:
    port = free_port()
    launch = [str(peers / "sgl/bin/python"), "-m", "sglang_router.launch_router"]
    return Gateway(SGLANG, [*launch, *_router(port, stub), "--policy", "cache_aware"], port)


def _configure_smg(peers: Path, stub: int) -> Gateway:
    port = free_port()
    launch = [str(peers / "smg/bin/smg"), "launch"]
    return Gateway("smg", [*launch, *_router(port, stub), "--policy", "round_robin"], port)


def _router(port: int, stub: int) -> list[str]:
    return [
        *("--host", "127.0.0.1", "--port", str(port), "--worker-urls", f"http://127.0.0.1:{stub}"),
        *("--log-level", "warn", "--prometheus-port", str(free_port())),
    ]


def _configure_portkey(package: Path, stub: int) -> Gateway:
    port = free_port()
    return Gateway(
        "portkey",
        ["node", str(package / "build/start-server.js"), f"--port={port}", "--headless"],
        port,
        env={"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "localhost,127.0.0.1"},
        headers={
            "authorization": f"Bearer {KEY}",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://127.0.0.1:{stub}/v1",
        },
    )


def _configure_litellm(peers: Path, stub: int, run: Path) -> Gateway:
    """Its production settings, one worker, a master key instead of callers' keys: those would need a database."""
    port = free_port()
    config = run / "litellm.yaml"
    config.write_text(f"""\
model_list:
  - model_name: stub
    litellm_params: {{model: openai/stub, api_base: "http://127.0.0.1:{stub}/v1", api_key: sk-unused}}
general_settings: {{master_key: {KEY}}}
litellm_settings: {{num_retries: 0, request_timeout: 60}}
""")
    binary = str(peers / "litellm/bin/litellm")
    return Gateway(
        LITELLM,
        [binary, "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"],
        port,
        env={"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    )


def _farthing() -> Path | None:
    own = ROOT / ".venv/bin/farthing"
    elsewhere = shutil.which("farthing")
    return own if own.is_file() else Path(elsewhere) if elsewhere else None


def _nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def _nginx_version() -> str | None:
    binary = _nginx()
    return _output([binary, "-v"]) if binary else None


def _installed(venv: Path, package: str) -> str | None:
    found = sorted(venv.glob(f"lib/python3*/site-packages/{package}-*.dist-info"))
    return found[0].name.removeprefix(f"{package}-").removesuffix(".dist-info") if found else None


def _npm_version(package: Path) -> str | None:
    manifest = package / "package.json"
    return str(json.loads(manifest.read_text())["version"]) if manifest.is_file() else None


def _output(command: list[str]) -> str | None:
    """The version number that a program prints about itself; `None` if it does not run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return None
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else None
