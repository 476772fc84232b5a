"""A real vLLM server behind the gateway: what its clients and its operators rely on, seen through the gateway.

Run by `make test-vllm`, which makes the server's environment and names it in $VLLM_TEST_DIR.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.support.gateway import start_gateway

DIR = os.environ.get("VLLM_TEST_DIR")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(DIR is None, reason="needs a real vLLM server: make test-vllm"),
]
LONG = "The cat sat on the mat and the dog looked at the cat. " * 60


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def vllm():
    """The server's URL; it is warm, and it is stopped at the end."""
    folder = Path(DIR)
    port = _free_port()
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [
        folder / "venv/bin/vllm", "serve", folder / "model", "--served-model-name", "tiny", "--host", "127.0.0.1",
        "--port", str(port), "--enforce-eager", "--max-model-len", "4096", "--max-num-seqs", "8", "--block-size", "32",
        "--enable-prefix-caching", "--enable-prompt-tokens-details", "--enable-lora",
        "--lora-modules", f"lora-a={folder}/model-lora-a", "--max-loras", "2", "--max-lora-rank", "8",
    ]  # fmt: skip
    log = (folder / "serve.log").open("w")
    server = subprocess.Popen(list(map(str, command)), env=environment, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        _until(lambda: _answers(f"{url}/health", server), 300)
        for model in ("tiny", "lora-a"):
            body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
            httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120).raise_for_status()
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, 15)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, 9)
        log.close()


def _answers(url: str, server: "subprocess.Popen[bytes]") -> bool:
    assert server.poll() is None, f"vLLM ended: {(Path(DIR) / 'serve.log').read_text()[-3000:]}"
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=2).status_code == 200
    return False


def _until(holds, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def gateway(vllm):
    policy = {
        "version": 1,
        "pools": {
            "tiny": {
                "replicas": [vllm],
                "gpu_hour_usd": 2.0,
                "input_tokens_per_s": 5000,
                "output_tokens_per_s": 500,
            }
        },
        "targets": {"pool": {"pool": "tiny"}, "aliased": {"pool": "tiny", "model": "tiny"}},
        "routes": [
            {"name": "alias", "match": {"models": ["my-model"]}, "target": "aliased"},
            {"name": "all", "match": {}, "target": "pool"},
        ],
    }
    with start_gateway(json.dumps(policy)) as live:
        yield live


@pytest.fixture(scope="module")
def client(gateway):
    with httpx.Client(base_url=gateway.url, timeout=120, trust_env=False) as http:
        yield http


def chat(model="tiny", **more):
    return {"model": model, "messages": [{"role": "user", "content": "hello there"}], "max_tokens": 8, **more}


def events(text: str) -> list:
    data = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    return [item if item == "[DONE]" else json.loads(item) for item in data]


def running(vllm: str) -> float:
    return _metric(vllm, r"num_requests_running\{.*\}")


def finished(vllm: str) -> float:
    """Requests that were worked on to their end."""
    return _metric(vllm, r"request_success_total\{.*\}")


def _metric(vllm: str, series: str) -> float:
    text = httpx.get(f"{vllm}/metrics", timeout=10).text
    return sum(float(value) for value in re.findall(rf"^vllm:{series} (\S+)", text, re.MULTILINE))


def test_an_answer_is_vllms_own_and_has_a_price_from_gpu_hours(client, vllm):
    direct = httpx.post(f"{vllm}/v1/chat/completions", json=chat(temperature=0), timeout=60).json()
    answer = client.post("/v1/chat/completions", json=chat(temperature=0))
    assert answer.json()["choices"] == direct["choices"]
    assert answer.json()["model"] == "tiny"
    assert float(answer.headers["x-farthing-cost-usd"]) > 0
    assert answer.headers["x-farthing-target"] == "pool"


def test_streams_carry_the_same_text(client):
    whole = client.post("/v1/chat/completions", json=chat(temperature=0)).json()["choices"][0]["message"]["content"]
    answer = client.post("/v1/chat/completions", json=chat(temperature=0, stream=True))
    *chunks, done = events(answer.text)
    assert done == "[DONE]"
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == whole
    assert all("usage" not in chunk or chunk["usage"] is None for chunk in chunks)


def test_usage_is_streamed_when_asked_for(client):
    body = chat(stream=True, stream_options={"include_usage": True})
    *_, last, done = events(client.post("/v1/chat/completions", json=body).text)
    assert done == "[DONE]"
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 8


def test_logprobs_come_through(client):
    answer = client.post("/v1/chat/completions", json=chat(logprobs=True, top_logprobs=3)).json()
    tokens = answer["choices"][0]["logprobs"]["content"]
    assert len(tokens) == 8
    assert len(tokens[0]["top_logprobs"]) == 3


def test_cached_tokens_are_reported_and_priced_lower(client):
    body = chat(messages=[{"role": "user", "content": LONG + str(time.time())}], temperature=0)
    body["messages"][0]["content"] = f"{time.time()} " + LONG
    cold = client.post("/v1/chat/completions", json=body)
    warm = client.post("/v1/chat/completions", json=body)
    assert (cold.json()["usage"]["prompt_tokens_details"] or {}).get("cached_tokens", 0) == 0
    assert warm.json()["usage"]["prompt_tokens_details"]["cached_tokens"] > 100
    assert float(warm.headers["x-farthing-cost-usd"]) < float(cold.headers["x-farthing-cost-usd"])


def test_adapters_are_models_of_their_own(client):
    plain = client.post("/v1/chat/completions", json=chat(temperature=0)).json()
    adapted = client.post("/v1/chat/completions", json=chat("lora-a", temperature=0)).json()
    assert adapted["model"] == "lora-a"
    assert adapted["choices"][0]["message"]["content"] != plain["choices"][0]["message"]["content"]


def test_an_alias_is_echoed(client):
    answer = client.post("/v1/chat/completions", json=chat("my-model"))
    assert answer.json()["model"] == "my-model"
    assert answer.headers["x-farthing-model"] == "tiny"


def test_several_choices(client):
    answer = client.post("/v1/chat/completions", json=chat(n=2)).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]


def test_completions(client):
    answer = client.post("/v1/completions", json={"model": "tiny", "prompt": "hello", "max_tokens": 4}).json()
    assert answer["object"] == "text_completion"
    assert answer["usage"]["completion_tokens"] == 4


def test_structured_output(client):
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    response_format = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    body = chat(response_format=response_format, max_tokens=200, temperature=0)
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    if answer.json()["choices"][0]["finish_reason"] == "stop":
        assert isinstance(json.loads(answer.json()["choices"][0]["message"]["content"])["ok"], bool)


def test_responses_native(client):
    answer = client.post("/v1/responses", json={"model": "tiny", "input": "hello", "max_output_tokens": 8})
    assert answer.status_code == 200, answer.text
    assert answer.json()["object"] == "response"


@pytest.mark.parametrize(
    "body",
    [chat("nonesuch"), chat(messages=[{"role": "user", "content": LONG * 20}]), chat(temperature=-1)],
    ids=["unknown model", "too long", "bad temperature"],
)
def test_errors_are_vllms_own_bytes(client, vllm, body):
    direct = httpx.post(f"{vllm}/v1/chat/completions", json=body, timeout=60)
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == direct.status_code
    assert answer.status_code in (400, 404)
    assert answer.content == direct.content


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
def test_the_engine_stops_when_the_client_leaves(gateway, vllm, stream):
    """Nothing is asked of vLLM's own server before the caller leaves: on a small machine the engine starves it."""
    before = finished(vllm)
    body = json.dumps(chat(stream=stream, max_tokens=3500, ignore_eos=True)).encode()
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as caller:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        caller.sendall(head.encode() + body)
        caller.settimeout(30 if stream else 1)  # a second is plenty for the engine to begin, and far from its end
        with contextlib.suppress(TimeoutError):
            assert caller.recv(1024).startswith(b"HTTP/1.1 200")
            assert stream, "the answer was complete before the caller left"
    _until(lambda: running(vllm) == 0, 5)
    assert finished(vllm) == before
    assert gateway.metric("farthing_requests_total", outcome="client_disconnect") >= 1


def test_many_at_once(client):
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.post("/v1/chat/completions", json=chat()).status_code))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 16
