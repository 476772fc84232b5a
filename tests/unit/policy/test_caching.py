"""What a policy says of caching, as the cache reads it."""

import pytest

from gateway.policy.caching import SemanticRule
from gateway.policy.compile import compile_policy
from gateway.policy.load import document_from_text
from tests.support.policies import problems, secret

TARGETS = "version: 1\ntargets: {a: {provider: sandbox, model: m}, b: {provider: sandbox}}\n"
FULL = "exact: 24h, semantic: {ttl: 1h, max_error: 2%, shadow_budget: $5/week}, share: user, tags: [kb, faq]"


def rules(route, defaults="", target="a"):
    text = f"{TARGETS}{defaults}routes: [{{name: r, match: {{}}, target: {target}{route}}}]\n"
    return compile_policy(document_from_text(text.encode(), name="p.yaml"), secret).caching


def test_nothing_is_cached_unless_a_policy_says_so():
    assert rules("") == {}


def test_a_route_says_what_it_caches():
    rule = rules(f", cache: {{{FULL}}}")["r"]
    assert (rule.exact_ttl_s, rule.share, rule.tags) == (86_400, "user", ("faq", "kb"))
    assert rule.semantic == SemanticRule(3600, max_error=0.02, shadow_budget=(5_000_000, "week"))


def test_defaults_hold_for_routes_that_say_nothing_and_for_direct_targets():
    found = rules("", defaults="defaults: {cache: {exact: 1h}}\n")
    assert {name: rule.exact_ttl_s for name, rule in found.items()} == {"r": 3600, "model:a": 3600, "model:b": 3600}


def test_an_empty_cache_opts_a_route_out():
    assert "r" not in rules(", cache: {}", defaults="defaults: {cache: {exact: 1h}}\n")


@pytest.mark.parametrize(
    ("route", "target"),
    [
        (", cache: {exact: 2h}", "a"),
        (", cache: {exact: 1h, share: user}", "a"),
        (", cache: {exact: 1h, tags: [kb]}", "a"),
        (", cache: {exact: 1h}", "b"),
        (", cache: {exact: 1h}, fallbacks: [b]", "a"),
    ],
)
def test_what_gives_answers_their_meaning_begins_a_new_cache(route, target):
    assert rules(route, target=target)["r"].version != rules(", cache: {exact: 1h}")["r"].version


def test_what_does_not_concern_the_route_keeps_its_cache():
    one = rules(", cache: {exact: 1h}")["r"].version
    assert rules(", cache: {exact: 1h}", defaults="budgets: [{scope: all, limit: $5/day}]\n")["r"].version == one


@pytest.mark.parametrize(
    ("cache", "says"),
    [
        ("{exact: 24}", "duration"),
        ("{semantic: {}}", "ttl"),
        ("{semantic: {ttl: 1h, max_error: 2}}", "percent"),
        ("{semantic: {ttl: 1h, threshold: 0.92}}", "unknown key"),
        ("{share: everybody}", "tenant"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(cache, says):
    found = problems(f"{TARGETS}routes: [{{name: r, match: {{}}, target: a, cache: {cache}}}]\n")
    assert len(found) == 1
    assert says in str(found[0])
