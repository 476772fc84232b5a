import pytest

from gateway.policy.lint import internal, lint
from gateway.policy.load import document_from_text

TARGETS = "version: 1\ntargets: {a: {provider: vllm}, b: {provider: vllm}}\nroutes:\n"


def found(text, has_price=lambda target: True):
    return lint(document_from_text(text.encode(), name="p.yaml"), has_price)


def one(text, **options):
    problems = found(text, **options)
    assert len(problems) == 1, [str(problem) for problem in problems]
    return problems[0]


def test_a_policy_without_doubts_has_no_findings():
    assert found(TARGETS + "  - {name: r, match: {models: [m]}, target: a, fallbacks: [b]}\n") == []


def test_a_row_that_the_price_book_does_not_have_is_told_of_a_sandbox_too():
    text = "version: 1\ntargets: {s: {provider: sandbox, price: gpt-4o}, t: {provider: sandbox}}\n"
    problem = one(text + "routes: [{name: r, match: {}, target: s, fallbacks: [t]}]\n", has_price=lambda target: False)
    assert (problem.key, problem.severity) == ("targets.s", "warning")
    assert "openai/gpt-4o" in problem.fix


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("{}", "{models: [m]}"),
        ("{models: ['m*']}", "{models: [m1, 'mm*']}"),
        ("{models: [m], tenants: [default]}", "{models: [m], tenants: [default], headers: {x: y}}"),
        ("{headers: {x: '*'}}", "{headers: {X: y, z: w}}"),
        ("{models: ['*']}", "{}"),
    ],
)
def test_a_route_behind_a_broader_one_is_never_reached(earlier, later):
    text = (
        TARGETS + f"  - {{name: r, match: {earlier}, split: [{{target: a, weight: 60}}, {{target: b, weight: 40}}]}}\n"
    )
    problem = one(text + f"  - {{name: s, match: {later}, target: a}}\n")
    assert (problem.line, problem.key, problem.severity) == (5, "routes[1]", "warning")
    assert "'r' (p.yaml:4)" in problem.message


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("{models: [m]}", "{}"),
        ("{models: [m1]}", "{models: ['m*']}"),
        ("{headers: {x: y}}", "{models: [m]}"),
        ("{headers: {x: y}}", "{headers: {x: 'y*'}}"),
        ("{tenants: [default]}", "{models: [m]}"),
    ],
)
def test_a_route_that_takes_what_is_left_is_reached(earlier, later):
    text = TARGETS + f"  - {{name: r, match: {earlier}, target: a}}\n  - {{name: s, match: {later}, target: b}}\n"
    assert found(text) == []


def test_a_target_that_nothing_leads_to_is_unused():
    problem = one(TARGETS + "  - {name: r, match: {}, target: a}\n")
    assert problem.key == "targets.b"
    assert "no route leads" in problem.message


def test_a_target_is_used_when_callers_can_name_it():
    assert found(TARGETS + "  - {name: r, match: {models: [m]}, target: a}\n") == []


def test_a_pool_without_a_target_is_unused():
    assert one("version: 1\npools: {p: {replicas: ['http://x:1']}}\n").key == "pools.p"


def test_a_fallback_to_the_target_itself_is_named():
    problem = one(TARGETS + "  - {name: r, match: {models: [m]}, target: a, fallbacks: [b, a]}\n")
    assert problem.key == "routes[0].fallbacks[1]"


def test_weights_that_do_not_read_as_percentages_are_an_info():
    text = TARGETS + "  - {name: r, match: {}, split: [{target: a, weight: 2}, {target: b, weight: 1}]}\n"
    problem = one(text)
    assert (problem.severity, problem.key) == ("info", "routes[0].split")
    assert "3" in problem.message


def test_a_credential_over_plain_http_to_the_outside_is_named():
    text = "version: 1\ntargets: {t: {provider: openai_compatible, base_url: 'http://api.example.com/v1', api_key: env:K}}\n"
    assert one(text).key == "targets.t.api_key"
    assert found(text.replace("http://api.example.com", "http://10.0.0.7")) == []
    assert found(text.replace("http://", "https://")) == []


def test_a_credential_over_plain_http_to_an_outside_replica_is_named():
    text = "version: 1\npools: {p: {replicas: ['http://gpu.example.com']}}\ntargets: {t: {pool: p, api_key: env:K}}\n"
    assert one(text).key == "targets.t.api_key"


@pytest.mark.parametrize(
    ("url", "inside"),
    [
        ("http://localhost:1", True),
        ("http://127.0.0.1", True),
        ("http://[::1]:80", True),
        ("http://192.168.3.4", True),
        ("http://vllm-0:8000", True),
        ("http://llm.models.svc.cluster.local", True),
        ("http://llm.models.svc.prod.example", True),
        ("http://8.8.8.8", False),
        ("http://api.example.com", False),
        ("http://svc.example.com", False),
    ],
)
def test_hosts_of_a_private_network_are_told_from_others(url, inside):
    assert internal(url) is inside


def test_a_simulated_target_beside_real_ones_is_named():
    text = "version: 1\ntargets: {t: {provider: vllm}, s: {provider: sandbox}}\n"
    assert one(text).key == "targets.s"
    assert found("version: 1\ntargets: {s: {provider: sandbox}}\n", has_price=lambda target: False) == []


def test_a_target_without_a_price_is_named():
    problem = one(TARGETS.replace("routes:", ""), has_price=lambda target: target.name != "b")
    assert problem.key == "targets.b"
    assert "unknown" in problem.message


def test_a_base_url_without_a_path_is_doubtful():
    problem = one("version: 1\ntargets: {t: {provider: vllm, base_url: 'http://localhost:8000'}}\n")
    assert problem.key == "targets.t.base_url"
    assert "http://localhost:8000/v1" in problem.fix


def test_a_tenant_or_tag_that_no_key_has_is_named_with_the_nearest():
    text = "defaults: {direct_targets: false}\nkeys: {k: {tenant: shop, secret: env:K, tags: [beta]}}\n"
    routes = (
        TARGETS + "  - {name: r, match: {models: [m], tenants: [shpo], tags: [beta, bta]}, target: a, fallbacks: [b]}\n"
    )
    first, second = found(routes + text)
    assert (first.key, first.fix) == ("routes[0].match.tenants[0]", "did you mean 'shop'?")
    assert second.key == "routes[0].match.tags[1]"


def test_a_restricted_route_to_a_target_that_all_can_name_is_doubtful():
    keys = "keys: {k: {tenant: shop, secret: env:K}, l: {tenant: bank, secret: env:L}}\n"
    routes = TARGETS + "  - {name: r, match: {models: [a], tenants: [shop]}, target: a}\n"
    assert one(routes + keys).key == "routes[0].match.models"
    assert found(routes + "  - {name: s, match: {models: [a]}, target: b}\n" + keys) == []
    closed = routes + "  - {name: s, match: {models: [x]}, target: b}\ndefaults: {direct_targets: false}\n"
    assert found(closed + keys) == []


def test_targets_of_a_restricted_route_that_all_can_name_are_an_info():
    keys = "keys: {k: {tenant: shop, secret: env:K}}\n"
    text = TARGETS + "  - {name: r, match: {tenants: [shop]}, target: a}\n"
    problem = one(text + keys)
    assert (problem.severity, problem.key) == ("info", "routes[0].match")
    assert found(text + "  - {name: s, match: {models: [m]}, target: a, fallbacks: [b]}\n" + keys) == []
