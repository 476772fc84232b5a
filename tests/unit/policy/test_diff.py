"""What `farthing policy diff` says of two policies."""

import msgspec
import pytest

from gateway.policy.diff import as_json, as_text, diff
from gateway.policy.load import document_from_text

TARGETS = """
version: 1
targets:
  fast: {provider: openai, model: gpt-4o-mini, api_key: env:OPENAI_API_KEY}
  smart: {provider: openai, model: gpt-4o, api_key: env:OPENAI_API_KEY}
"""
ONE = TARGETS + "routes: [{name: chat, match: {models: [auto]}, target: fast}]\n"


def document(text: str):
    return document_from_text(text.encode())


def said(old: str, new: str, *prices) -> list[str]:
    return [f"{change.section}/{change.name}: {change.words}" for change in diff(document(old), document(new), *prices)]


def test_a_policy_is_the_same_as_itself_in_another_layout():
    other = """
version: 1
routes:
  - target: fast  # the first
    name: chat
    match: {models: ["auto"]}
    retries: {}
targets:
  smart: {api_key: env:OPENAI_API_KEY, provider: openai, model: gpt-4o}
  fast: {api_key: env:OPENAI_API_KEY, provider: openai, model: gpt-4o-mini}
"""
    assert diff(document(ONE), document(other)) == []
    assert as_text([]) == "the policies mean the same\n"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("target: fast", "target: smart", "routes/chat: target: fast -> smart"),
        ("[auto]", "[auto, 'gpt-*']", "routes/chat: match.models: auto -> auto, gpt-*"),
        ("{models: [auto]}", "{}", "routes/chat: match.models: auto -> any"),
        ("{models: [auto]}", "{models: [auto], tenants: [shop]}", "routes/chat: match.tenants: any -> shop"),
        ("target: fast", "target: fast, fallbacks: [smart]", "routes/chat: fallbacks: not set -> smart"),
        ("target: fast", "target: fast, deadlines: {total: 90s}", "routes/chat: deadlines.total: not set -> 90s"),
        ("target: fast", "target: fast, cache: {exact: 24h}", "routes/chat: cache.exact: not set -> 1d"),
        ("target: fast", "target: fast, cache: {}", "routes/chat: cache: not set -> nothing"),
        ("gpt-4o-mini", "gpt-4.1-mini", "targets/fast: model: gpt-4o-mini -> gpt-4.1-mini"),
        ("model: gpt-4o,", "model: gpt-4o, price: {input: $2, output: $8.25},",
         "targets/smart: price: not set -> input $2, output $8.25"),
    ],
)  # fmt: skip
def test_a_changed_key_is_told_with_both_values(old, new, words):
    assert said(ONE, ONE.replace(old, new)) == [words]


def test_shares_and_sides_of_a_split_are_percentages():
    old = ONE.replace("target: fast", "split: [{target: fast, weight: 19}, {target: smart, weight: 1}]")
    new = ONE.replace("target: fast", "split: [{target: fast, weight: 8, sticky: session}, {target: smart, weight: 2}]")
    assert said(old, new) == ["routes/chat: split: fast 95%, smart 5% -> fast 80%, smart 20%, sticky"]


def test_thresholds_move_in_percent():
    old = ONE.replace("target: fast", "classify: {weak: fast, strong: smart, max_quality_loss: 3%}")
    new = old.replace("3%", "5%, confidence: 99%")
    assert said(old, new) == [
        "routes/chat: classify.max_quality_loss: 3% -> 5%",
        "routes/chat: classify.confidence: 95% -> 99%",
    ]


def test_what_requests_may_cost_moves_in_dollars_for_1000():
    old = ONE.replace("target: fast", "classify: {weak: fast, strong: smart, target_cost: $0.8/1k}")
    assert said(old, old.replace("$0.8", "$1.25")) == ["routes/chat: classify.target_cost: $0.80/1k -> $1.25/1k"]


def test_the_rule_of_a_semantic_cache_is_told_key_by_key():
    old = ONE.replace("target: fast", "target: fast, cache: {semantic: {ttl: 1h, max_error: 1%}}")
    new = old.replace("ttl: 1h, max_error: 1%", "ttl: 90m, max_error: 0.5%, shadow_budget: $2/day")
    assert said(old, new) == [
        "routes/chat: cache.semantic.ttl: 1h -> 90m",
        "routes/chat: cache.semantic.max_error: 1% -> 0.5%",
        "routes/chat: cache.semantic.shadow_budget: $1/day -> $2/day",
    ]


def routes(*names: str) -> str:
    return (
        TARGETS + "routes:\n" + "".join(f"  - {{name: {n}, match: {{models: [{n}]}}, target: fast}}\n" for n in names)
    )


def test_an_order_is_told_by_the_fewest_routes_that_move():
    assert said(routes("a", "b", "c", "d"), routes("d", "a", "b", "c")) == ["routes/d: order: now asked before a, b, c"]
    assert said(routes("a", "b", "c", "d"), routes("b", "c", "d", "a")) == ["routes/a: order: now asked after b, c, d"]


def test_added_removed_and_renamed_routes_say_what_they_take():
    assert said(routes("a", "b"), routes("n", "a", "b")) == [
        "routes/n: new: takes models n; goes to fast; asked before a, b"
    ]
    assert said(routes("a", "b"), routes("a")) == ["routes/b: removed (was: takes models b; goes to fast)"]
    renamed = routes("a").replace("name: a", "name: z")
    assert said(routes("a"), renamed) == ["routes/z: renamed from a: budgets, certificates and reports go by the name"]


def test_budgets_and_limits_go_by_scope():
    old = ONE + "budgets: [{scope: tenant, limit: $500/month}]\nlimits: [{scope: key, requests: 10/s}]\n"
    new = ONE + (
        "budgets: [{scope: tenant, limit: $400/month}, {scope: all, limit: $20/day}]\n"
        "limits: [{scope: key, requests: 300/min, concurrent: 5}]\n"
    )
    assert said(old, new) == [
        "budgets/tenant/month: limit: $500/month -> $400/month",
        "budgets/all/day: new: limit $20/day",
        "limits/key: requests: 600/min -> 300/min",
        "limits/key: new: concurrent 5",
    ]


def test_keys_are_told_by_name_and_never_with_their_secret():
    old = ONE + "keys: {web: {tenant: shop, secret: env:WEB_KEY}, ci: {tenant: shop, secret: env:CI_KEY}}\n"
    new = ONE + "keys: {web: {tenant: shop, secret: env:OTHER_KEY}, batch: {tenant: lab, secret: env:LAB_KEY}}\n"
    assert said(old, new) == [
        "keys/ci: removed",
        "keys/web: secret: a reference -> a reference, but not the same",
        "keys/batch: new: tenant lab",
    ]
    assert "KEY" not in as_text(diff(document(old), document(new)))


def test_headers_of_targets_are_told_by_name_alone():
    old = ONE.replace("gpt-4o-mini,", "gpt-4o-mini, headers: {x-team: red-secret},")
    changed = said(old, old.replace("red-secret", "blue-secret"))
    assert changed == ["targets/fast: headers: x-team -> x-team, but not the same"]


def test_the_baseline_the_money_and_the_defaults_are_told():
    new = ONE + "baseline: smart\nmoney: {unknown_price: $0.50}\ndefaults: {retries: {budget: 10%}}\n"
    assert said(ONE, new) == [
        "baseline/: not set -> smart",
        "money/: unknown_price: refuse -> $0.50",
        "defaults/: retries.budget: not set -> 10%",
    ]


def test_prices_are_compared_for_targets_that_both_have():
    old, new = {"fast": {"input": "$0.15", "output": "$0.60"}}, {"fast": {"input": "$0.10", "output": "$0.60"}}
    assert said(ONE, ONE, old, {**new, "other": {"input": "$1"}}) == ["prices/fast: input: $0.15 -> $0.10"]


def test_the_json_has_every_change_and_whether_they_are_the_same():
    told = msgspec.json.decode(as_json(diff(document(ONE), document(ONE.replace("target: fast", "target: smart")))))
    assert told["same"] is False
    assert told["changes"] == [
        {"section": "routes", "name": "chat", "change": "changed", "key": "target", "old": "fast", "new": "smart",
         "words": "target: fast -> smart"}
    ]  # fmt: skip
    assert msgspec.json.decode(as_json([])) == {"object": "policy.diff", "same": True, "changes": []}


def test_the_text_is_grouped_by_section():
    new = ONE.replace("target: fast", "target: smart") + "baseline: smart\n"
    assert as_text(diff(document(ONE), document(new))) == (
        "routes\n  ~ chat: target: fast -> smart\nbaseline\n  ~ not set -> smart\n"
    )
