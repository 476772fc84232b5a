"""What is found on a machine without a policy, and in which order."""

import pytest

from gateway.core.exchange import Identity
from gateway.discovery import LocalServer, policy_document, probe
from gateway.policy.load import policy_from_dict
from tests.support.faults import html
from tests.support.upstream import Upstream, refused_url, silent_url

VLLM = LocalServer("vllm", "http://127.0.0.1:8000/v1", ("llama", "lora-a"))
ANYBODY = Identity("default", "open")


def goes_to(environ, servers, model):
    policy = policy_from_dict(
        policy_document(environ, servers).document, resolve_secret=lambda name: f"sk-secret-of-{name}"
    )
    route = policy.resolve(ANYBODY, model, [])
    return None if route is None else route.plan(0.0).targets[0].name


@pytest.mark.parametrize(
    ("environ", "servers", "model", "target"),
    [
        ({"OPENAI_API_KEY": "x"}, [VLLM], "gpt-4o", "openai"),
        ({"ANTHROPIC_API_KEY": "x"}, [], "claude-sonnet-4-5", "anthropic"),
        ({"ANTHROPIC_API_KEY": "x", "OPENAI_API_KEY": "x"}, [], "claude-sonnet-4-5", "anthropic"),
        ({"ANTHROPIC_API_KEY": "x", "OPENAI_API_KEY": "x"}, [], "gpt-4o", "openai"),
        ({"OPENAI_API_KEY": ""}, [VLLM], "llama", "vllm"),
        ({}, [VLLM], "anything", "vllm"),
        ({}, [], "sandbox-large", "sandbox-large"),
        ({}, [], "gpt-4o", None),
    ],
)
def test_keys_come_before_local_servers_and_the_sandbox_comes_last(environ, servers, model, target):
    assert goes_to(environ, servers, model) == target


def test_what_was_found_is_said_without_secrets():
    found = policy_document({"OPENAI_API_KEY": "sk-very-secret"}, [])
    assert "OPENAI_API_KEY" in found.notes[0]
    assert "sk-very-secret" not in str(found)


async def test_a_server_that_lists_models_is_found_and_others_are_not():
    async with Upstream() as good, Upstream(html(404)) as other:
        with refused_url() as closed, silent_url() as silent:
            urls = (closed, silent, other.url, good.url)
            found = await probe([("vllm", f"{url}/v1") for url in urls], timeout_s=0.3)
    assert [server.base_url for server in found] == [f"{good.url}/v1"]
    assert found[0].models
