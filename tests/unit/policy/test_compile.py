import hashlib

from gateway.core.exchange import Deadlines, Identity, Retries
from gateway.policy.compile import compile_policy
from gateway.policy.load import document_from_text, policy_from_dict
from tests.support.policies import caller, policy, secret


def target(body, more=""):
    return policy("targets: {t: {" + body + "}}\n" + more).targets["t"]


def test_openai_stands_for_its_address_and_a_bearer_token():
    made = target("provider: openai, model: gpt-4o, api_key: env:K")
    assert (made.provider, made.base_url, made.model) == ("openai_compatible", "https://api.openai.com/v1", "gpt-4o")
    assert made.headers == (("authorization", f"Bearer {secret('env:K')}"),)
    assert not made.self_hosted
    assert made.options == {"preset": "openai"}


def test_anthropic_gets_its_version_and_its_own_key_header():
    made = target("provider: anthropic, api_key: env:K")
    assert made.provider == "anthropic"
    assert made.base_url == "https://api.anthropic.com/v1"
    assert dict(made.headers) == {"anthropic-version": "2023-06-01", "x-api-key": secret("env:K")}


def test_a_header_of_the_target_replaces_that_of_the_preset():
    made = target("provider: anthropic, api_key: env:K, headers: {Anthropic-Version: '2024-01-01'}")
    assert dict(made.headers)["anthropic-version"] == "2024-01-01"
    assert len(made.headers) == 2


def test_azure_gets_an_api_key_header_and_its_query():
    made = target(
        "provider: azure, base_url: 'https://x.openai.azure.com/openai/v1/', api_key: env:K, "
        "query: {api-version: 2024-10-21, note: a b&c}"
    )
    assert made.base_url == "https://x.openai.azure.com/openai/v1"
    assert made.query == "api-version=2024-10-21&note=a%20b%26c"
    assert dict(made.headers) == {"api-key": secret("env:K")}


def test_a_local_engine_needs_no_key_and_is_self_hosted():
    made = target("provider: ollama")
    assert (made.base_url, made.headers, made.self_hosted) == ("http://127.0.0.1:11434/v1", (), True)


def test_headers_may_be_literal_or_references():
    made = target("provider: vllm, headers: {X-Team: search, X-Token: 'env:T'}")
    assert made.headers == (("x-team", "search"), ("x-token", secret("env:T")))


def test_a_pool_target_carries_its_pool_without_versions_in_urls():
    made = target(
        "pool: p, model: llama",
        "pools: {p: {replicas: ['http://a:1/v1', 'http://b:1/'], gpu_hour_usd: $2.10, gpus: 2, interval: 2s, "
        "output_tokens_per_s: 1800}}",
    )
    assert made.pool.replicas == ("http://a:1", "http://b:1")
    assert (made.pool.gpu_hour_usd, made.pool.gpus, made.pool.health_interval_s) == ("2.10", 2, 2.0)
    assert (made.pool.health_path, made.pool.output_tokens_per_s) == ("/health", 1800.0)
    assert (made.base_url, made.self_hosted, made.provider) == (None, True, "openai_compatible")
    assert made.options == {"preset": "vllm"}


def test_sandbox_options_arrive_as_given():
    made = target("provider: sandbox, latency_ms: 40, tokens_per_s: 100, error_rate: 5%, seed: 3, size: large")
    assert made.provider == "sandbox"
    assert made.options == {"latency_ms": 40, "tokens_per_s": 100.0, "error_rate": 0.05, "seed": 3, "size": "large"}


def test_a_price_is_a_row_of_the_book_or_exact_amounts():
    assert target("provider: vllm, price: gpt-4o").price_key == "gpt-4o"
    inline = target("provider: vllm, price: {input: 0.15, output: $0.60, cached: 0.075}")
    assert inline.price_key is None
    assert inline.options["price"] == {"input": 150_000, "output": 600_000, "cached": 75_000}


def test_deadlines_and_retries_are_inherited_key_by_key():
    made = policy(
        "defaults: {deadlines: {connect: 1s, total: 100s}, retries: {budget: 10%}}\n"
        "targets: {t: {provider: sandbox, deadlines: {total: 50s}, retries: {attempts: 3}}}\n"
        "routes: [{name: r, match: {models: [m]}, target: t, deadlines: {first_token: 3s}, retries: {attempts: 1}}]\n"
    )
    assert made.targets["t"].deadlines == Deadlines(connect_s=1.0, total_s=50.0)
    assert made.targets["t"].retries == Retries(attempts=3, budget=0.1)
    routed = made.resolve(caller(), "m", []).plan(0.0).targets[0]
    assert routed.deadlines == Deadlines(connect_s=1.0, first_token_s=3.0, total_s=50.0)
    assert routed.retries == Retries(attempts=1, budget=0.1)


def test_keys_are_held_as_digests_of_their_secrets():
    made = policy("keys: {web: {tenant: shop, secret: env:WEB, tags: [a, b]}}")
    digest = hashlib.sha256(secret("env:WEB").encode()).hexdigest()
    assert made.keys == {digest: Identity(tenant="shop", key="web", tags=frozenset({"a", "b"}))}


def test_the_hash_ignores_layout_comments_order_of_names_and_secrets():
    one = policy("targets:\n  a: {provider: openai, api_key: env:K}\n  b: {provider: sandbox}\n")
    other = b"# hello\ntargets: {b: {provider: sandbox}, a: {api_key: 'env:K', provider: openai}}\nversion: 1\n"
    assert compile_policy(document_from_text(other), lambda _: "another secret altogether").hash == one.hash
    assert len(one.hash) == 12


def test_the_hash_changes_with_content_and_with_the_order_of_routes():
    def made(*routes, model="x"):
        doc = {"version": 1, "targets": {"a": {"provider": "sandbox", "model": model}}, "routes": list(routes)}
        return policy_from_dict(doc, resolve_secret=secret).hash

    first = {"name": "r", "match": {"models": ["m"]}, "target": "a"}
    second = {"name": "s", "match": {}, "target": "a"}
    assert len({made(first, second), made(second, first), made(first), made(first, model="y")}) == 4


def test_a_secret_is_in_no_text_of_a_policy():
    made = policy("targets: {t: {provider: openai, api_key: env:K}}\nroutes: [{name: r, match: {}, target: t}]")
    plan = made.resolve(caller(), "m", []).plan(0.0)
    assert secret("env:K") not in repr(made.targets) + repr(plan) + repr(made.routes)
