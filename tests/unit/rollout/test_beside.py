"""A policy compiled to serve beside another: nobody gets in or spends who would not there, and nothing is mixed up."""

import pytest

from gateway.core.exchange import Identity
from gateway.policy.compile import compile_policy
from gateway.policy.load import document_from_stored, document_from_text
from tests.support.policies import policy, secret

SERVED = """
keys: {ci: {tenant: shop, secret: env:CI}}
pools: {gpu: {replicas: ["http://10.0.0.1:8000"]}}
targets:
  up: {provider: openai_compatible, base_url: "http://127.0.0.1:1/v1", api_key: env:UP}
  own: {pool: gpu}
budgets: [{scope: "tenant:shop", limit: $500/month}, {scope: all, limit: $9/day}]
limits: [{scope: key, requests: 600/min, concurrent: 10}]
money: {timezone: Europe/Berlin}
"""


def beside(text, served):
    return compile_policy(document_from_text(b"version: 1\n" + text.encode()), secret, beside=served)


def test_the_keys_and_the_money_rules_are_those_of_the_policy_in_force():
    served = policy(SERVED)
    made = beside(SERVED.replace("ci:", "new:").replace("env:CI", "env:NEW").replace("Berlin", "Paris"), served)
    assert made.keys == served.keys
    assert made.money == served.money


def test_of_each_limit_the_lower_holds_and_none_is_lost():
    served = policy(SERVED)
    made = beside(
        SERVED.replace("$500", "$900").replace("$9/day", "$5/day").replace("600/min", "60/min").replace("10}", "50}"),
        served,
    )
    applies = made.limits(Identity("shop", "ci"), "r")
    assert {each.id: each.limit_micro_usd for each in applies.budgets} == {
        "tenant:shop/month": 500_000_000,
        "all/day": 5_000_000,
    }
    assert [each.per_minute for each in applies.rates] == [60]
    assert [each.most for each in applies.concurrency] == [10]
    without = beside("targets: {up: {provider: sandbox}}", served)
    assert without.has_limits
    assert without.limits(Identity("shop", "ci"), "r") == served.limits(Identity("shop", "ci"), "r")


@pytest.mark.parametrize(
    ("old", "new"),
    [(":1/v1", ":2/v1"), ("env:UP", "env:OTHER"), ("api_key: env:UP", "api_key: env:UP, deadlines: {total: 5s}")],
    ids=["address", "credential", "deadline"],
)
def test_a_target_of_the_same_name_and_other_content_is_told_apart(old, new):
    served = policy(SERVED)
    made = beside(SERVED.replace(old, new), served)
    assert made.targets["up"].place == f"up@{made.hash}"
    assert made.targets["up"].name == "up"
    assert made.targets["own"].place == "own"
    assert made.targets["own"] == served.targets["own"]


def test_a_pool_of_the_same_name_and_other_replicas_is_told_apart_in_every_plan():
    served = policy(SERVED)
    made = beside(SERVED.replace("10.0.0.1", "10.0.0.2") + "routes: [{name: r, match: {}, target: own}]\n", served)
    name = f"gpu@{made.hash}"
    assert made.targets["own"].pool.name == name
    assert [target.pool.name for plan in made.routes[0].plans for target in plan.targets] == [name]
    assert made.targets["own"].place == f"own@{made.hash}"


def test_what_is_the_same_is_shared():
    served = policy(SERVED)
    made = beside(SERVED + "routes: [{name: r, match: {}, target: up}]\n", served)
    assert made.targets == served.targets
    assert made.pools == served.pools


def test_the_text_makes_the_same_policy_again_and_holds_no_secret_and_no_comment():
    served = policy("# the password is hunter2\n" + SERVED)
    again = compile_policy(document_from_stored(served.text), secret)
    assert (again.hash, again.targets, again.keys) == (served.hash, served.targets, served.keys)
    assert b"hunter2" not in served.text
    assert b"secret-of-" not in served.text
    assert b"env:UP" in served.text
