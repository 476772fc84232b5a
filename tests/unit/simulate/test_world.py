"""One request under one policy: where it goes, what it costs, what refuses it, what the record leaves open."""

import msgspec
import pytest

from gateway.simulate.world import Before
from tests.support.simulations import BEGIN_S, seen, world

CHAT = "routes: [{name: chat, match: {models: [auto]}, target: fast}]\n"
CHOOSES = "routes: [{name: chat, match: {models: [auto]}, classify: {weak: fast, strong: smart, strong_share: 30%}}]\n"
UNPRICED = "  unpriced: {provider: openai_compatible, base_url: https://example.test/v1, model: m}\n"
TWO = """
routes:
  - {name: words, match: {models: [auto], keywords: [refund]}, target: smart}
  - {name: chat, match: {models: [auto]}, target: fast}
"""


def outcome(made, recorded, draw=0.0):
    return made.replay(recorded, draw, recorded.started_s or BEGIN_S)


def test_a_request_goes_where_the_policy_sends_it_at_the_price_of_its_tokens():
    found = outcome(world(CHAT), seen("hello"))
    assert (found.kind, found.route, found.target, found.cost_micro) == ("served", "chat", "fast", 100 + 20)
    assert found.undecided == ()


def test_a_model_that_no_route_takes_is_refused():
    assert outcome(world(CHAT), seen(model="gpt-9")).why == "model_not_found"


def test_unknown_tokens_cost_an_unknown_amount():
    assert outcome(world(CHAT), seen(usage=None)).cost_micro is None


def test_keywords_are_decided_with_a_body_and_left_open_without_one():
    made = world(TWO)
    assert outcome(made, seen("about my refund")).target == "smart"
    assert outcome(made, seen("hello")).target == "fast"
    found = outcome(made, seen())
    assert (found.target, found.undecided) == ("fast", ("words: keywords",))


def test_the_recorded_route_decides_what_the_record_cannot():
    same = Before(matches=frozenset(["words", "chat"]))
    assert outcome(world(TWO, same), seen(route="words")).target == "smart"
    found = outcome(world(TWO, same), seen(route="chat"))
    assert (found.target, found.undecided) == ("fast", ())


def test_a_route_that_is_new_is_open_whatever_the_record_says():
    new = Before(matches=frozenset(["chat"]))
    assert outcome(world(TWO, new), seen(route="chat")).undecided == ("words: keywords",)


@pytest.mark.parametrize(
    ("condition", "facts", "target"),
    [
        ("min_input_tokens: 50", {}, "smart"),  # the 100 tokens of its usage
        ("min_input_tokens: 50", {"input_tokens": 20}, "fast"),
        ("max_input_tokens: 50", {}, "fast"),
        ("tools: true", {"tools": True}, "smart"),
        ("tools: true", {"tools": False}, "fast"),
        ("images: false", {"images": False}, "smart"),
        ("structured: true", {"structured": True}, "smart"),
        ("latency: batch", {"latency": "batch"}, "smart"),
        ("sensitive: true", {"sensitive": ""}, "fast"),
        ('hours: ["13:00-15:00"]', {}, "smart"),  # it is 14:13 UTC
        ('hours: ["15:00-16:00"]', {}, "fast"),
        ("days: [sun]", {}, "fast"),
    ],
)
def test_facts_decide_conditions_without_a_body(condition, facts, target):
    made = world(TWO.replace("keywords: [refund]", condition))
    found = outcome(made, seen(facts=facts, time=BEGIN_S))
    assert (found.target, found.undecided) == (target, ())


def test_headers_that_are_not_recorded_leave_their_conditions_open():
    made = world(TWO.replace("keywords: [refund]", "headers: {x-team: red}"))
    assert outcome(made, seen(headers={"X-Team": "red"})).target == "smart"
    assert outcome(made, seen(headers={})).target == "fast"
    assert outcome(made, seen()).undecided == ("words: headers",)


def test_facts_and_a_body_come_to_the_same():
    made = world(TWO.replace("keywords: [refund]", "tools: true, min_input_tokens: 10"))
    tools = [{"type": "function", "function": {"name": "f"}}]
    request = {"model": "auto", "messages": [{"role": "user", "content": "hello"}], "tools": tools}
    with_body = outcome(made, seen(model=None, request=request))
    with_facts = outcome(made, seen(facts={"tools": True, "input_tokens": 30}))
    assert with_body == with_facts
    assert with_body.target == "smart"


def test_sensitive_requests_keep_to_self_hosted_targets():
    text = CHAT.replace("target: fast", "target: fast, fallbacks: [own]") + "sensitive: {tenants: [clinic]}\n"
    for recorded in (seen("hi", tenant="clinic"), seen(tenant="clinic"), seen(facts={"sensitive": "keywords"})):
        assert outcome(world(text), recorded).target == "own"
    assert outcome(world(text), seen("hi")).target == "fast"
    refused = outcome(world(CHAT + "sensitive: {tenants: [clinic]}\n"), seen(tenant="clinic"))
    assert refused.why == "no_self_hosted_target"


def test_where_sensitive_requests_are_served_is_told():
    text = CHAT.replace("target: fast", "target: fast, fallbacks: [own], cache: {exact: 1h}") + (
        "sensitive: {tenants: [clinic]}\n"
    )
    made = world(text)
    assert [outcome(made, seen("hi", tenant="clinic")).kept for _ in range(2)] == ["inside", "inside"]
    assert outcome(made, seen("hi")).kept == ""


def test_sensitivity_by_text_is_open_without_it():
    text = CHAT + "sensitive: {keywords: [diagnosis]}\n"
    assert outcome(world(text), seen("hi")).undecided == ()
    assert outcome(world(text), seen()).undecided == ("sensitive",)


def test_the_header_keeps_a_request_inside_with_and_without_a_body():
    text = CHAT.replace("target: fast", "target: fast, fallbacks: [own]")
    for recorded in (seen("hi", headers={"x-farthing-sensitive": "yes"}), seen(headers={"x-farthing-sensitive": "1"})):
        assert outcome(world(text), recorded).target == "own"


def test_a_session_keeps_to_its_side_with_and_without_a_body():
    text = CHAT.replace(
        "target: fast", "split: [{target: fast, weight: 50, sticky: session}, {target: smart, weight: 50}]"
    )
    for session in map(str, range(20)):
        headers = {"x-farthing-session": session}
        sides = {outcome(world(text), seen(*body, headers=headers), draw).target
                 for body in ((), ("hi",)) for draw in (0.1, 0.9)}  # fmt: skip
        assert len(sides) == 1


def test_a_recorded_session_stands_in_for_the_header():
    text = CHAT.replace(
        "target: fast", "split: [{target: fast, weight: 50, sticky: session}, {target: smart, weight: 50}]"
    )
    made = world(text)
    for session in map(str, range(20)):
        with_header = outcome(made, seen("hi", headers={"x-farthing-session": session}))
        recorded = msgspec.structs.replace(seen(), session=session)
        assert {outcome(made, recorded, draw).target for draw in (0.1, 0.9)} == {with_header.target}


def test_splits_go_by_the_draw():
    made = world(CHAT.replace("target: fast", "split: [{target: fast, weight: 90}, {target: smart, weight: 10}]"))
    assert [outcome(made, seen(), draw).target for draw in (0.0, 0.89, 0.91)] == ["fast", "fast", "smart"]


@pytest.mark.parametrize(("score", "target"), [(0.04, "fast"), (0.05, "fast"), (0.06, "smart")])
def test_scores_choose_by_the_threshold(score, target):
    found = outcome(world(CHOOSES, threshold=0.05), seen(score=score))
    assert (found.target, found.side) == (target, "weak" if target == "fast" else "strong")


@pytest.mark.parametrize(("tier", "target", "open_"), [("light", "fast", False), ("embed", "smart", True)])
def test_a_recorded_score_counts_where_the_route_has_the_tier_that_made_it(tier, target, open_):
    recorded = msgspec.structs.replace(seen(score=0.01), tier=tier)
    found = outcome(world(CHOOSES, threshold=0.05), recorded)
    assert (found.target, bool(found.undecided)) == (target, open_)


def test_without_a_threshold_everything_is_strong_and_nothing_is_open():
    found = outcome(world(CHOOSES), seen())
    assert (found.target, found.undecided) == ("smart", ())


def test_without_a_score_the_choice_is_open_unless_it_is_that_of_the_record():
    assert outcome(world(CHOOSES, threshold=0.05), seen()).undecided == ("chat: score",)
    same = Before(frozenset(["chat"]), frozenset(["chat"]))
    found = outcome(world(CHOOSES, same, threshold=0.05), seen(route="chat", target="fast"))
    assert (found.target, found.side, found.undecided) == ("fast", "weak", ())


def test_a_caller_that_asks_for_the_cheap_one_gets_it_without_a_score():
    found = outcome(world(CHOOSES, threshold=0.05), seen(model="auto:cheap"))
    assert (found.target, found.undecided) == ("fast", ())


def test_the_same_body_is_answered_from_the_cache_until_its_time_is_up():
    made = world(CHAT.replace("target: fast", "target: fast, cache: {exact: 1h}"))
    at = [BEGIN_S, BEGIN_S + 3600, BEGIN_S + 3601, BEGIN_S + 7201]
    found = [made.replay(seen("hello", time=at_s), 0.0, at_s) for at_s in at]
    assert [each.kind for each in found] == ["served", "hit", "served", "hit"]
    assert found[1].cost_micro == 0
    assert made.replay(seen("hello", time=at[3], tenant="other"), 0.0, at[3]).kind == "served"
    assert made.replay(seen("hello", time=at[3], headers={"x-farthing-cache": "off"}), 0.0, at[3]).kind == "served"


def test_an_answer_that_waits_for_a_second_sighting_is_kept_then():
    made = world(CHAT.replace("target: fast", "target: fast, cache: {exact: 1h, second_sighting: true}"))
    assert [outcome(made, seen("hello")).kind for _ in range(4)] == ["served", "served", "hit", "hit"]


@pytest.mark.parametrize(
    ("cache", "rule", "kind", "open_"),
    [
        ("exact", "exact: 1h", "hit", False),
        ("coalesced", "exact: 1h", "hit", False),
        ("semantic", "exact: 1h", "served", False),
        ("semantic", "semantic: {ttl: 1h}", "hit", False),
        ("miss", "exact: 1h", "served", False),
        ("off", "exact: 1h", "served", True),
    ],
)
def test_without_a_body_hits_are_those_of_the_record_that_the_rule_allows(cache, rule, kind, open_):
    made = world(CHAT.replace("target: fast", f"target: fast, cache: {{{rule}}}"))
    found = outcome(made, seen(cache=cache))
    assert (found.kind, bool(found.undecided)) == (kind, open_)


def test_a_budget_refuses_what_it_has_no_room_for_and_begins_anew_each_day():
    made = world(CHAT + 'budgets: [{scope: "tenant:shop", limit: $0.0003/day}]\n')
    day_s = BEGIN_S - BEGIN_S % 86_400
    found = [made.replay(seen(tenant="shop"), 0.0, day_s + at_s) for at_s in (0, 1, 2, 86_400)]
    assert [each.kind for each in found] == ["served", "served", "refused", "served"]
    assert found[2].why == "budget tenant:shop/day"
    assert made.replay(seen(tenant="lab"), 0.0, day_s + 3).kind == "served"


def test_with_a_body_a_budget_must_hold_the_worst_case():
    made = world(CHAT + "budgets: [{scope: all, limit: $0.0003/day}]\n")
    assert outcome(made, seen("hello")).kind == "refused"  # no limit of tokens: 16,384 might come


@pytest.mark.parametrize(("rule", "kind"), [("refuse", "refused"), ("allow", "served"), ("$0.50", "served")])
def test_an_unknown_price_under_a_budget_is_refused_as_the_policy_says(rule, kind):
    text = f"""
routes: [{{name: chat, match: {{}}, target: unpriced}}]
budgets: [{{scope: all, limit: $5/day}}]
money: {{unknown_price: {rule}}}
"""
    assert outcome(world(UNPRICED + text), seen()).kind == kind


def test_a_key_of_the_policy_brings_the_tenant_and_tags_that_it_has_now():
    text = """
keys: {web: {tenant: shop, secret: env:WEB, tags: [gold]}}
routes:
  - {name: gold, match: {tags: [gold]}, target: smart}
  - {name: chat, match: {}, target: fast}
"""
    assert outcome(world(text), seen(key="web")).target == "smart"
    assert outcome(world(text), seen(key="other")).target == "fast"
    assert outcome(world(CHAT, Before(keys=frozenset(["web"]))), seen(key="web")).why == "no_key"
