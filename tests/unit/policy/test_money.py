import io

import pytest

from gateway.core.errors import PolicyError
from gateway.core.exchange import Identity
from gateway.core.limits import Applies, Budget, Concurrency, Rate
from gateway.policy.commands import lint_command
from gateway.policy.compile import compile_policy
from gateway.policy.limits import MEMO_ENTRIES, MoneyRules
from gateway.policy.lint import lint
from gateway.policy.load import document_from_text, policy_from_dict, read_document
from gateway.policy.problems import PolicyProblems
from tests.support.policies import policy, problems, secret

HEAD = "version: 1\ntargets: {a: {provider: sandbox}}\nroutes: [{name: r, match: {}, target: a}]\n"
SHOP = Identity("shop", "ci", frozenset({"x", "y"}))


def made(text):
    return compile_policy(document_from_text((HEAD + text).encode(), name="p.yaml"), secret)


def one(text):
    found = problems(HEAD + text)
    assert len(found) == 1, [str(each) for each in found]
    return found[0]


def budget_ids(policy, identity=SHOP, route="r"):
    return [budget.id for budget in policy.limits(identity, route).budgets]


def test_a_policy_without_money_limits_nobody():
    applies = made("").limits(SHOP, "r")
    assert applies == Applies()
    assert not applies
    assert made("").money == MoneyRules()
    assert made("").baseline is None


def test_a_budget_carries_its_money_period_soft_limits_and_zone():
    text = (
        "budgets: [{scope: 'tenant:shop', limit: $500.25/month, soft: [90%, 0.5]}]\nmoney: {timezone: Europe/Berlin}\n"
    )
    assert made(text).limits(SHOP, "r").budgets == (
        Budget("tenant:shop/month", "tenant:shop", "month", 500_250_000, (0.5, 0.9), "Europe/Berlin"),
    )


def test_without_soft_limits_the_usual_ones_hold_and_an_empty_list_is_none():
    assert made("budgets: [{scope: all, limit: 1/day}]").limits(SHOP, "r").budgets[0].soft == (0.8, 0.9, 1.0)
    assert made("budgets: [{scope: all, limit: 1/day, soft: []}]").limits(SHOP, "r").budgets[0].soft == ()


def test_every_scope_of_the_caller_and_the_route_applies_and_no_other():
    scopes = ["all", "route:r", "tenant:shop", "key:ci", "tag:x", "tag:z", "tenant:other", "key:other", "route:model:a"]
    entries = ", ".join(f"{{scope: '{scope}', limit: $1/total}}" for scope in scopes)
    policy = made(f"budgets: [{entries}]")
    assert budget_ids(policy) == ["key:ci/total", "tag:x/total", "tenant:shop/total", "route:r/total", "all/total"]
    assert budget_ids(policy, Identity("nobody", "none")) == ["route:r/total", "all/total"]
    assert budget_ids(policy, Identity("nobody", "none"), "model:a") == ["route:model:a/total", "all/total"]


def test_each_tenant_and_each_key_has_a_budget_of_its_own():
    policy = made("budgets: [{scope: tenant, limit: $10/day}, {scope: key, limit: $2/week}]")
    first, second = policy.limits(SHOP, "r").budgets
    assert (first.id, first.scope, first.limit_micro_usd) == ("key:ci/week", "key:ci", 2_000_000)
    assert (second.id, second.scope, second.period) == ("tenant:shop/day", "tenant:shop", "day")
    assert budget_ids(policy, Identity("lab", "k2")) == ["key:k2/week", "tenant:lab/day"]


def test_a_budget_by_name_stands_in_for_that_of_each_one_period_by_period():
    text = "budgets: [{scope: tenant, limit: $10/day}, {scope: tenant, limit: $90/month}, {scope: 'tenant:shop', limit: $50/day}]"
    budgets = made(text).limits(SHOP, "r").budgets
    assert {budget.id: budget.limit_micro_usd for budget in budgets} == {
        "tenant:shop/day": 50_000_000,
        "tenant:shop/month": 90_000_000,
    }


def test_limits_are_rates_per_minute_and_slots():
    policy = made(
        "limits: [{scope: key, requests: 10/s, tokens: 200k/min, concurrent: 50}, {scope: 'key:ci', tokens: 6M/hour}]"
    )
    applies = policy.limits(SHOP, "r")
    assert set(applies.rates) == {
        Rate("key:ci/requests", "requests", 600),
        Rate("key:ci/tokens", "tokens", 100_000),
    }
    assert applies.concurrency == (Concurrency("key:ci", 50),)
    assert policy.limits(Identity("t", "other"), "r").concurrency == (Concurrency("key:other", 50),)


def test_a_name_may_hold_colons_and_slashes():
    policy = made("budgets: [{scope: 'tenant:shop:web/eu', limit: $1/day}]")
    assert budget_ids(policy, Identity("shop:web/eu", "k")) == ["tenant:shop:web/eu/day"]


def test_an_answer_is_computed_once_and_the_memo_is_bounded():
    policy = made("limits: [{scope: key, requests: 1/min}]")
    assert policy.limits(SHOP, "r") is policy.limits(Identity("shop", "ci", frozenset({"y", "x"})), "r")
    for number in range(MEMO_ENTRIES + 10):
        policy.limits(Identity("t", f"k{number}"), "r")
    assert len(policy._limits._memo) <= MEMO_ENTRIES
    assert policy.limits(SHOP, "r").rates[0].id == "key:ci/requests"


def test_the_money_rules_arrive_as_written():
    text = "money: {timezone: Asia/Tokyo, unknown_price: $0.50, output_tokens: 8k}"
    assert made(text).money == MoneyRules("Asia/Tokyo", 500_000, 8_000)
    assert made("money: {unknown_price: allow}").money.unknown_price == "allow"
    assert made("money:\nbudgets:\nlimits:\n").money == MoneyRules()


def test_the_baseline_is_a_target():
    assert made("baseline: a").baseline.name == "a"


def test_a_webhook_is_a_url_that_is_kept_out_of_sight():
    doc = {"version": 1, "money": {"alert_webhook": "env:W"}}
    url = "https://hooks.example.com/services/T0/B0/x?token=1"
    rules = policy_from_dict(doc, resolve_secret=lambda _: url).money
    assert rules.alert_webhook == url
    assert "hooks" not in repr(rules)


@pytest.mark.parametrize("value", ["not a url", "ftp://h/x", "https:///no-host", "http://[", "two words"])
def test_a_webhook_that_is_no_url_is_named_and_not_repeated(value):
    doc = {"version": 1, "money": {"alert_webhook": "env:W"}}
    with pytest.raises(PolicyProblems, match=r"money\.alert_webhook") as caught:
        policy_from_dict(doc, resolve_secret=lambda _: value)
    assert value not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "key", "what"),
    [
        ("budgets: {}", "budgets", "not a list"),
        ("limits: 3", "limits", "not a list"),
        ("money: []", "money", "not a mapping"),
        ("baseline: b", "baseline", "unknown target 'b'"),
        ("baseline: ", "baseline", "no value"),
        ("baseline: [a]", "baseline", "not a usable name"),
        ("budgets: [{scope: tenant}]", "budgets[0].limit", "missing"),
        ("budgets: [{limit: $1/day}]", "budgets[0].scope", "missing"),
        ("budgets: [{scope: all, limit: $1/day, hard: true}]", "budgets[0].hard", "unknown key"),
        ("budgets: [{scope: tenants, limit: $1/day}]", "budgets[0].scope", "not a scope"),
        ("budgets: [{scope: 'tenant:', limit: $1/day}]", "budgets[0].scope", "not a scope"),
        ("budgets: [{scope: 'route', limit: $1/day}]", "budgets[0].scope", "not a scope"),
        ("budgets: [{scope: 'route:s', limit: $1/day}]", "budgets[0].scope", "unknown route 's'"),
        ("budgets: [{scope: 'route:model:b', limit: $1/day}]", "budgets[0].scope", "unknown route"),
        ("limits: [{scope: 'route:s', requests: 1/min}]", "limits[0].scope", "unknown route"),
        ("budgets: [{scope: all, limit: 500}]", "budgets[0].limit", "not an amount for a period"),
        ("budgets: [{scope: all, limit: $5/year}]", "budgets[0].limit", "not an amount for a period"),
        ("budgets: [{scope: all, limit: $0/day}]", "budgets[0].limit", "not above 0"),
        ("budgets: [{scope: all, limit: $0.0000001/day}]", "budgets[0].limit", "six decimals"),
        ("budgets: [{scope: all, limit: $1/day, soft: [120%]}]", "budgets[0].soft[0]", "not a percentage"),
        ("budgets: [{scope: all, limit: $1/day, soft: [0%]}]", "budgets[0].soft[0]", "always reached"),
        ("limits: [{scope: key}]", "limits[0]", "limits nothing"),
        ("limits: [{scope: key, requests: 600}]", "limits[0].requests", "not a rate"),
        ("limits: [{scope: key, requests: 100/hour}]", "limits[0].requests", "whole number a minute"),
        ("limits: [{scope: key, requests: 0/min}]", "limits[0].requests", "whole number a minute"),
        ("limits: [{scope: key, concurrent: 0}]", "limits[0].concurrent", "whole number above 0"),
        ("limits: [{scope: key, concurrent: 1.5}]", "limits[0].concurrent", "whole number above 0"),
        ("money: {timezone: Berlin}", "money.timezone", "not a time zone"),
        ("money: {timezone: ../etc/passwd}", "money.timezone", "not a time zone"),
        ("money: {timezone: Europe}", "money.timezone", "not a time zone"),
        ("money: {unknown_price: deny}", "money.unknown_price", "no rule"),
        ("money: {unknown_price: 0}", "money.unknown_price", "no rule"),
        ("money: {output_tokens: -1}", "money.output_tokens", "whole number above 0"),
        ("money: {alert_webhook: 'https://x/y'}", "money.alert_webhook", "not a reference"),
    ],
)
def test_what_cannot_be_meant_is_named_with_its_line_and_a_fix(body, key, what):
    found = one(body)
    assert (found.key, found.line) == (key, 4)
    assert what in found.message
    assert found.fix


def test_a_second_budget_for_a_scope_and_period_names_both_lines():
    found = one(
        "budgets:\n  - {scope: all, limit: $1/day}\n  - {scope: all, limit: $1/week}\n  - {scope: all, limit: $2/day}\n"
    )
    assert (found.line, found.key) == (7, "budgets[2].scope")
    assert "p.yaml:5" in found.message


def test_a_second_limit_of_one_kind_for_a_scope_names_both_lines():
    found = one(
        "limits:\n  - {scope: key, requests: 1/s}\n  - {scope: key, tokens: 1/s}\n  - {scope: key, requests: 2/s}\n"
    )
    assert (found.line, found.key) == (7, "limits[2].requests")
    assert "p.yaml:5" in found.message


def test_a_route_of_a_broken_entry_is_not_called_unknown():
    text = "version: 1\nroutes: [{name: s, match: {}}]\nbudgets: [{scope: 'route:s', limit: $1/day}]\n"
    assert [found.key for found in problems(text)] == ["routes[0]"]


def test_without_direct_targets_there_is_no_implicit_route():
    text = "defaults: {direct_targets: false}\nbudgets: [{scope: 'route:model:a', limit: $1/day}]\n"
    assert "unknown route" in one(text).message


def test_the_baseline_and_the_money_rules_stand_in_one_file(tmp_path):
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("version: 1\nbaseline: t\nmoney: {timezone: UTC}\n")
    (tmp_path / "c.yaml").write_text("version: 1\ntargets: {t: {provider: sandbox}}\n")
    with pytest.raises(PolicyProblems) as caught:
        read_document(tmp_path)
    assert [problem.key for problem in caught.value.problems] == ["baseline", "money"]
    assert f"{tmp_path}/a.yaml:2" in caught.value.problems[0].fix


def test_budgets_of_several_files_are_one_list(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "version: 1\ntargets: {t: {provider: sandbox}}\nbudgets: [{scope: all, limit: 1/day}]\n"
    )
    (tmp_path / "b.yaml").write_text("version: 1\n\nbudgets: [{scope: all, limit: 2/day}]\n")
    with pytest.raises(PolicyProblems) as caught:
        read_document(tmp_path)
    assert str(caught.value).startswith(
        f"{tmp_path}/b.yaml:3: budgets[0].scope: all/day has a budget at {tmp_path}/a.yaml:3"
    )


def test_the_hash_covers_all_of_it():
    texts = ["", "baseline: a", "money: {timezone: Asia/Tokyo}", "money: {output_tokens: 1}"]
    texts += ["budgets: [{scope: all, limit: 1/day}]", "budgets: [{scope: all, limit: 2/day}]"]
    texts += ["limits: [{scope: all, requests: 1/s}]", "limits: [{scope: all, requests: 2/s}]"]
    assert len({made(text).hash for text in texts}) == len(texts)
    assert made("budgets: [{scope: all, limit: $1.00/day}]").hash == made("budgets: [{limit: 1/day, scope: all}]").hash


KEYS = "keys: {ci: {tenant: shop, secret: env:K, tags: [x]}}\n"


def doubts(text, priced=()):
    document = document_from_text((HEAD.replace("sandbox", "vllm") + text).encode(), name="p.yaml")
    return lint(document, lambda target: priced is all or target.name in priced)


@pytest.mark.parametrize(
    ("scope", "what"), [("tenant:shp", "tenant 'shp'"), ("tag:y", "tag 'y'"), ("key:c", "no key of this policy is 'c'")]
)
def test_a_scope_that_nobody_has_is_doubted(scope, what):
    (found,) = doubts(KEYS + f"limits: [{{scope: '{scope}', requests: 1/s}}]", all)
    assert (found.key, found.severity) == ("limits[0].scope", "warning")
    assert what in found.message


def test_without_keys_in_the_policy_a_scope_is_only_pointed_out():
    (found,) = doubts("budgets: [{scope: 'tenant:shop', limit: 1/day}]", all)
    assert found.severity == "info"
    assert "farthing keys create" in found.fix


def test_a_scope_that_somebody_has_is_not_doubted():
    scopes = ["tenant:shop", "tag:x", "key:ci", "tenant", "all", "route:r"]
    assert doubts(KEYS + f"budgets: [{', '.join(f'{{scope: {each}, limit: 1/day}}' for each in scopes)}]", all) == []


def test_a_baseline_without_a_price_is_doubted():
    messages = {found.key: found.message for found in doubts("baseline: a")}
    assert "savings" in messages["baseline"]
    assert doubts("baseline: a", all) == []


def test_an_unpriced_target_under_a_budget_is_said_to_be_refused():
    (found,) = doubts("budgets: [{scope: all, limit: 1/day}]")
    assert (found.key, found.severity) == ("targets.a", "warning")
    assert "budget at p.yaml:4" in found.message
    for rule in ("allow", "$0.50"):
        (found,) = doubts(f"money: {{unknown_price: {rule}}}\nbudgets: [{{scope: all, limit: 1/day}}]")
        assert "recorded as unknown" in found.message


def test_an_unpriced_target_beside_the_route_of_the_budget_is_not():
    text = (
        "version: 1\ntargets: {a: {provider: vllm}, b: {provider: vllm}}\nroutes:\n"
        "  - {name: r, match: {models: [m]}, target: a}\n  - {name: s, match: {models: [n]}, target: b}\n"
        "budgets: [{scope: 'route:r', limit: 1/day}]\n"
    )
    found = lint(document_from_text(text.encode()), lambda target: False)
    said = {problem.key: "refused" in problem.message for problem in found}
    assert said == {"targets.a": True, "targets.b": False}


def test_a_baseline_is_in_use_without_a_route():
    text = "version: 1\ntargets: {a: {provider: vllm}, b: {provider: vllm}}\nroutes: [{name: r, match: {}, target: a}]\nbaseline: b\n"
    assert lint(document_from_text(text.encode()), lambda target: True) == []


def test_a_replica_in_two_pools_is_doubted():
    text = "version: 1\npools:\n  p: {replicas: ['http://h:1']}\n  q: {replicas: ['http://g:1', 'http://h:1/v1']}\n"
    text += "targets: {a: {pool: p}, b: {pool: q}}\n"
    (found,) = lint(document_from_text(text.encode(), name="p.yaml"), lambda target: True)
    assert (found.line, found.key, found.severity) == (4, "pools.q.replicas[1]", "warning")


def test_lint_knows_no_secret_but_says_which_are_not_set(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(HEAD + "money: {alert_webhook: env:HOOK}\nkeys: {k: {tenant: t, secret: env:YOUR_API_KEY}}\n")
    out = io.StringIO()
    assert lint_command(path, {}, lambda target: True, out=out) == 0, out.getvalue()
    assert "HOOK is not set" in out.getvalue()
    assert (
        lint_command(path, {"HOOK": "nowhere", "YOUR_API_KEY": "f8Kd02mNqL1xTz7v"}, lambda target: True, out=out) == 1
    )


def test_a_webhook_that_is_not_set_is_an_error_where_the_gateway_runs():
    def unset(reference):
        raise PolicyError(f"{reference} is not set")

    with pytest.raises(PolicyProblems, match="env:W is not set"):
        policy_from_dict({"version": 1, "money": {"alert_webhook": "env:W"}}, resolve_secret=unset)


def test_an_empty_section_limits_nobody():
    assert policy("budgets:\nlimits:\nmoney:\n").limits(SHOP, "r") == Applies()
