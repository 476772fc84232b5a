"""Two policies over the same traffic: what is summed, compared and left out."""

import msgspec
import pytest

from gateway.routing.decide import Scored, Threshold
from gateway.simulate.money import DayPrices
from gateway.simulate.replay import replay
from gateway.simulate.world import Before, World
from tests.support.policies import policy
from tests.support.simulations import BEGIN_S, BOOK, TARGETS, compared, seen

FAST = "routes: [{name: chat, match: {models: [auto]}, target: fast}]\n"
SMART = FAST.replace("fast", "smart")
CHOOSES = "routes: [{name: chat, match: {models: [auto]}, classify: {weak: fast, strong: smart, strong_share: 30%}}]\n"


def test_a_policy_against_itself_changes_nothing():
    tally = compared([seen("a"), seen(), seen(tenant="x")], FAST, FAST)
    assert {name: found.value for name, found in tally.measured().items()} == dict.fromkeys(tally.measured(), 0.0)
    assert tally.quality.by == "same"


def test_cost_is_compared_request_by_request():
    tally = compared([seen("a") for _ in range(10)], FAST, SMART)
    assert (tally.pairs.old, tally.pairs.new) == (10 * 1200, 10 * 120)
    assert tally.measured()["cost"].value == pytest.approx(-0.9)


def test_the_record_itself_is_the_other_side_where_no_policy_is_given():
    tally = compared([seen("a", target="smart", cost_usd="0.0012"), seen("b")], FAST, None)
    assert (tally.pairs.n, tally.pairs.old, tally.pairs.new) == (1, 1200, 120)
    assert tally.old.untold == 1


def test_a_refusal_is_no_saving():
    tally = compared([seen("a"), seen(model="gpt-9")], FAST + "defaults: {direct_targets: false}\n",
                     "routes: [{name: chat, match: {}, target: fast}]\n")  # fmt: skip
    assert tally.pairs.n == 1
    assert tally.measured()["cost"].value == 0.0
    assert tally.refused_cost == 120
    assert dict(tally.new.refused) == {"model_not_found": 1}
    assert tally.measured()["refused"].value == 0.5


def test_unknown_costs_are_counted_and_in_no_sum():
    tally = compared([seen("a", usage=None), seen("b")], FAST, SMART)
    assert (tally.new.unknown_cost, tally.new.cost, tally.pairs.n) == (1, 120, 1)


def test_labels_by_target_say_how_quality_changes():
    good, same, worse = {"smart": 1, "fast": 1}, {"smart": 0, "fast": 0}, {"smart": 1, "fast": 0}
    tally = compared([seen("a", quality=q) for q in (good, same, worse, good)], FAST, SMART)
    assert tally.quality.by == "labels"
    assert tally.measured()["quality"].value == pytest.approx(-0.25)


def test_labels_of_weak_and_strong_go_by_the_sides_that_a_route_names():
    tally = compared([seen("a", score=0.0, quality={"weak": 0.5, "strong": 1})] * 3, CHOOSES, SMART, threshold=0.1)
    assert tally.measured()["quality"].value == pytest.approx(-0.5)
    unnamed = compared([seen("a", quality={"weak": 0.5, "strong": 1})] * 3, FAST, SMART)
    assert unnamed.measured()["quality"] is None


def test_scores_stand_in_where_there_are_no_labels():
    tally = compared(
        [seen("a", score=0.02), seen("b", score=0.06), seen("c", score=0.9)], CHOOSES, SMART, threshold=0.1
    )
    assert tally.quality.by == "scores"
    assert tally.measured()["quality"].value == pytest.approx(-0.08 / 3)


def test_scores_that_the_replay_makes_stand_in_as_well():
    def scored(text, before):
        return World(policy(TARGETS + text), DayPrices(BOOK), lambda _: Threshold(0.1),
                     lambda *_: Scored(0.05), before)  # fmt: skip

    tally = replay([seen("a"), seen("b")], scored(CHOOSES, Before()), scored(SMART, Before()), seed=1, now_s=BEGIN_S)
    assert tally.quality.by == "scores"
    assert tally.measured()["quality"].value == pytest.approx(-0.05)


def test_the_strong_share_of_the_record_is_what_the_new_one_is_held_against():
    strong = [msgspec.structs.replace(seen(target="smart", cost_usd="0.0012"), side="strong") for _ in range(4)]
    tally = compared(strong, CHOOSES, None, threshold=None)
    assert (tally.old.strong, tally.new.strong) == (4, 4)
    assert tally.measured()["strong"].value == 0


def test_a_change_of_target_that_nothing_speaks_of_is_unknown():
    tally = compared([seen("a")], FAST, SMART)
    assert tally.quality.by == "unknown"
    assert tally.measured()["quality"] is None


def test_some_labels_speak_for_all_answers_that_change():
    labelled = [seen("a", quality={"smart": 1, "fast": 0}) for _ in range(4)]
    tally = compared([*labelled, *(seen("b") for _ in range(12))], FAST, SMART)
    assert tally.measured()["quality"].value == -1.0
    assert tally.measured()["quality"].n == 4


def test_tenants_have_their_own_sums():
    new = FAST + 'budgets: [{scope: "tenant:lab", limit: $0.0002/total}]\n'
    tally = compared([seen(tenant=name) for name in ("shop", "lab", "lab")], new, SMART)
    lab, shop = tally.tenants["lab"], tally.tenants["shop"]
    assert (lab.requests, lab.newly_refused, lab.pairs.n) == (2, 1, 1)
    assert (shop.moved_micro, shop.newly_refused) == (-1080, 0)


def test_what_the_record_does_not_decide_is_counted_by_reason():
    new = FAST.replace("{models: [auto]}", "{models: [auto], tools: true, keywords: [x]}")
    tally = compared([seen(), seen("text")], new + "defaults: {direct_targets: false}\n", FAST)
    assert tally.undecided_requests == 1
    assert dict(tally.undecided) == {"chat: keywords": 1, "chat: tools": 1}


def test_the_same_seed_draws_the_same():
    split = FAST.replace("target: fast", "split: [{target: fast, weight: 1}, {target: smart, weight: 1}]")
    traffic = [seen("a") for _ in range(50)]
    first, second = (compared(traffic, split, FAST) for _ in range(2))
    assert first.new.places.keys() == second.new.places.keys() == {("chat", "fast"), ("chat", "smart")}
    assert first.pairs.new == second.pairs.new


def test_a_split_that_does_not_change_costs_the_same_under_both():
    split = FAST.replace("target: fast", "split: [{target: fast, weight: 1}, {target: smart, weight: 1}]")
    assert compared([seen("a") for _ in range(50)], split, split).measured()["cost"].value == 0.0
