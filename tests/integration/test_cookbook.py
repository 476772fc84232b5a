"""The policies of docs/policy-cookbook.md on their sample traffic: each keeps its promise, and breaks it when broken."""

import json
import re
from collections import Counter

import pytest

from gateway import app
from gateway.simulate.sources import load_policy
from gateway.simulate.traffic import read_line
from gateway.simulate.world import Before
from tests.support.cookbook import EXAMPLES, PAGE, RECIPES, ROOT, TRAFFIC, Kitchen, chosen, fences, page
from tests.support.sample_traffic import KINDS, dump, traffic

BURST = 50
"""Requests whose share of strong calls a key may spend at once: docs/policy-reference.md, the cap."""


@pytest.fixture(scope="module")
def pantry():
    return {}


@pytest.fixture
def kitchen(tmp_path, pantry):
    return Kitchen(tmp_path, pantry)


def placed(said, side="after") -> Counter:
    """Requests by target."""
    found: Counter = Counter()
    for place in said[side]["places"]:
        found[place["target"]] += place["requests"]
    return found


def test_the_page_shows_each_policy_and_what_it_prints(kitchen):
    text = PAGE.read_text()
    encoded = ["support-faq-cache"]  # its last digits are the processor's: eight-bit kernels round in their own ways
    assert page(text, kitchen, encoded) == text, "write it anew with `make cookbook`"


def test_the_page_has_every_example_once():
    shown = list(fences(PAGE.read_text()))
    names = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))
    for kind in ("yaml", "console"):
        assert sorted(name for each, name in shown if each == kind) == names
    assert sorted(RECIPES) == names


def test_the_sample_traffic_is_what_its_command_makes():
    data = TRAFFIC.read_bytes()
    assert data == dump(traffic()), "write it anew with `make cookbook`"
    assert len(data) < 200_000
    assert Counter(json.loads(line)["id"].split("-")[0] for line in data.splitlines()) == KINDS


def test_the_metrics_that_the_page_watches_exist():
    known = set(re.findall(r"`(farthing_\w+)`", (ROOT / "docs/observability.md").read_text()))
    assert set(re.findall(r"farthing_\w+", PAGE.read_text())) <= known


@pytest.mark.parametrize("name", [*RECIPES, "sample/before"])
def test_a_recipe_has_no_errors_and_no_warnings(kitchen, name):
    if name in RECIPES:
        kitchen.prepare(name)
    status, said = kitchen.run(f"farthing policy lint --strict {name}.yaml")
    assert status == 0, said


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_decides_every_request_of_the_sample(kitchen, name):
    kitchen.prepare(name)
    said = kitchen.simulated(name)
    assert said["undecided"]["requests"] == 0
    assert said["before"]["requests"] == said["requests"] == sum(KINDS.values())
    assert said["after"]["unknown_cost"] == 0


# 1


def test_what_is_left_open_goes_to_the_pool_with_an_api_behind_it(kitchen):
    said = kitchen.simulated("local-pool-first", more="--fail-on 'pool>70%,refused>0%'")
    assert not said["failed"]
    assert {place["target"] for place in said["after"]["places"] if place["route"] == "open"} == {"local"}
    assert said["change"]["cost"]["high"] < 0
    assert plan(kitchen, "local-pool-first") == ["local", "gpt-4.1-mini"]


def test_a_pool_that_is_too_small_fails_the_check(kitchen):
    rates = (
        ("input_tokens_per_s: 12000", "input_tokens_per_s: 0.9"),
        ("output_tokens_per_s: 1800", "output_tokens_per_s: 0.9"),
    )
    assert kitchen.simulated(kitchen.changed("local-pool-first", *rates), more="--fail-on 'pool>70%'")["failed"]


def plan(kitchen, name) -> list[str]:
    """The targets of a request for `auto`, in order."""
    (kitchen.folder / "request.json").write_text('{"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}')
    return json.loads(kitchen.run(f"farthing policy explain --policy {name}.yaml --request request.json --json")[1])[
        "targets"
    ]


# 2


def test_without_a_certificate_everything_is_strong(kitchen):
    after = kitchen.simulated("choose-by-complexity")["after"]
    assert after["chosen"] == after["strong"] > 300


def test_a_certificate_lets_the_weak_target_serve_within_the_loss_that_it_bounds(kitchen):
    kitchen.prepare("choose-by-complexity")
    said = kitchen.simulated("choose-by-complexity", more="--fail-on 'quality<-4%,cost>-20%'")
    assert not said["failed"]
    assert 0 < said["after"]["strong"] < 0.6 * said["after"]["chosen"]
    assert said["change"]["quality"]["high"] > -0.03
    assert {place["target"] for place in said["after"]["places"] if place["route"] in ("tools", "long")} == {"gpt-4.1"}


@pytest.mark.parametrize(
    "change", [("max_quality_loss: 3%", "max_quality_loss: 2%"), ("confidence: 95%", "confidence: 99%"),
               ("8B-Instruct", "70B-Instruct")]
)  # fmt: skip
def test_a_certificate_for_less_than_the_policy_asks_serves_nothing(kitchen, change):
    kitchen.prepare("choose-by-complexity")
    after = kitchen.simulated(kitchen.changed("choose-by-complexity", change))["after"]
    assert after["chosen"] == after["strong"]


# 3


def test_no_sensitive_request_leaves(kitchen):
    said = kitchen.simulated("sensitive-data", "sensitive")
    assert placed(said) == {"inside": KINDS["sensitive"]}
    assert said["after"]["sensitive"] == {"inside": KINDS["sensitive"], "outside": 0, "refused": 0}
    assert placed(said, "before").keys() == {"gpt-4.1"}
    assert placed(kitchen.simulated("sensitive-data", *(set(KINDS) - {"sensitive"})))["inside"] == 0


@pytest.mark.parametrize(
    "rule", [r"    - '\b\d{3}-\d{2}-\d{4}\b'", r"    - '\b[A-Z]{2}\d{2}( ?[A-Z0-9]{4}){3,7}\b'", "diagnosis, ", "  tenants: [clinic]"]
)  # fmt: skip
def test_every_rule_of_sensitivity_is_needed(kitchen, rule):
    without = {"  tenants: [clinic]": ("  tenants: [clinic]\n  keywords: [diagnosis, medical record]\n", "")}
    change = without.get(rule, (rule, "" if rule == "diagnosis, " else "    - 'nothing like this'"))
    said = kitchen.simulated(kitchen.changed("sensitive-data", change), "sensitive")
    assert placed(said)["gpt-4.1"] > 0


def test_without_a_place_inside_sensitive_requests_are_refused(kitchen):
    outside = kitchen.changed("sensitive-data", ("inside: {pool: llama-70b, model: meta-llama/Llama-3.3-70B-Instruct}",
                                                 "inside: {provider: openai, model: gpt-4.1, api_key: env:K}"))  # fmt: skip
    said = kitchen.simulated(outside, "sensitive")
    assert said["after"]["refused"] == {"no_self_hosted_target": KINDS["sensitive"]}
    assert placed(said) == {}


# 4


def test_no_budget_is_passed_and_refusals_say_which(kitchen):
    said = kitchen.simulated("team-budgets")
    assert len(said["budgets"]) == 8
    assert all(float(each["fullest_usd"]) <= float(each["limit_usd"]) for each in said["budgets"])
    by_budget = {f"budget {each['budget']}": each["refused"] for each in said["budgets"] if each["refused"]}
    assert by_budget.keys() == {"budget key:research-bob/day", "budget tag:trial/total", "budget tenant:research/day"}
    assert said["after"]["refused"] == by_budget
    research = next(each for each in said["budgets"] if each["budget"] == "tenant:research/day")
    assert research["passed"]["0.5"] >= research["passed"]["0.9"] >= 1


def test_without_its_budget_a_trial_spends_on(kitchen):
    free = kitchen.changed("team-budgets", ('  - {scope: "tag:trial", limit: $0.03/total}\n', ""))
    trial = kitchen.simulated(free)["tenants"]["trial"]
    assert trial["newly_refused"] == 0
    assert float(trial["new_usd"]) > 0.03


# 5


def test_batches_go_to_the_pool_at_night_and_people_never_do(kitchen):
    batch = placed(kitchen.simulated("interactive-and-batch", "batch"))
    assert batch.keys() == {"local", "gpt-4.1-mini"}
    assert batch["local"] > batch["gpt-4.1-mini"] > 0
    people = kitchen.simulated("interactive-and-batch", "support", "code", "maths")
    assert placed(people)["local"] == 0


def test_without_hours_batches_crowd_the_pool_by_day(kitchen):
    always = kitchen.changed("interactive-and-batch", (', hours: ["20:00-07:00"], timezone: Europe/Berlin', ""))
    assert placed(kitchen.simulated(always, "batch")) == {"local": KINDS["batch"]}


# 6


def test_without_a_certificate_only_the_same_requests_are_hits(kitchen):
    said = kitchen.simulated("support-faq-cache", "support")
    assert said["after"]["hits"] > 0
    assert said["after"]["hit_kinds"] == {"exact": said["after"]["hits"]}


def test_a_certificate_adds_hits_in_other_words_and_none_of_what_is_personal(kitchen):
    kitchen.prepare("support-faq-cache")
    said = kitchen.simulated("support-faq-cache", "support")
    assert said["after"]["hit_kinds"]["semantic"] > 5
    orders = kitchen.simulated("support-faq-cache", "order")
    assert "semantic" not in orders["after"]["hit_kinds"]
    others = kitchen.simulated("support-faq-cache", *(set(KINDS) - {"support", "order", "sensitive"}))
    assert others["after"]["hits"] == 0


def test_no_answer_is_served_to_another_tenant(kitchen):
    kitchen.prepare("support-faq-cache")
    asked = chosen("support")
    alone = kitchen.replayed("support-faq-cache", asked)["after"]["hits"]
    guest = {"tenant": "guest", "key": "guest"}
    both = kitchen.replayed("support-faq-cache", [each for line in asked for each in (line, line | guest)])
    assert both["after"]["hits"] == 2 * alone > 0
    shared = kitchen.replayed("support-faq-cache", [each for line in asked for each in (line, line | {"key": "guest"})])
    assert shared["after"]["hits"] > 2 * alone


@pytest.mark.parametrize("change", [("max_error: 1%", "max_error: 0.1%"), ("confidence: 95%", "confidence: 99%")])
def test_a_cache_certificate_for_less_than_the_policy_asks_serves_nothing(kitchen, change):
    kitchen.prepare("support-faq-cache")
    said = kitchen.simulated(kitchen.changed("support-faq-cache", change), "support")
    assert "semantic" not in said["after"]["hit_kinds"]


# 7


def test_a_session_stays_on_its_side_and_moves_only_with_the_weights(kitchen):
    wider = (("weight: 90", "weight: 75"), ("azure-sweden, weight: 5", "azure-sweden, weight: 15"),
             ("azure-france, weight: 5", "azure-france, weight: 10"))  # fmt: skip
    now = sides(kitchen, "provider-migration")
    later = sides(kitchen, kitchen.changed("provider-migration", *wider))
    assert all(len(each) == 1 for each in now.values())
    moved = {session for session, side in now.items() if side != {"gpt-4.1"}}
    moved_later = {session for session, side in later.items() if side != {"gpt-4.1"}}
    assert moved < moved_later
    assert 0 < len(moved) < 0.3 * len(now)


def test_a_split_that_is_not_sticky_tears_sessions_apart(kitchen):
    text = (kitchen.folder / "provider-migration.yaml").read_text()
    (kitchen.folder / "torn.yaml").write_text(text.replace(", sticky: session", "").replace("weight: 90", "weight: 10"))
    assert any(len(each) > 1 for each in sides(kitchen, "torn").values())


def sides(kitchen, name) -> dict[str, set[str]]:
    """The targets of each session that asks more than twice."""
    world = load_policy(kitchen.folder / f"{name}.yaml", app.load_prices, lambda: "minilm").world(Before())
    found: dict[str, list[str]] = {}
    for number, line in enumerate(TRAFFIC.read_bytes().splitlines()):
        recorded = read_line(line, "line")
        session = dict(recorded.headers or ()).get(b"x-farthing-session")
        if session is not None:
            outcome = world.replay(recorded, number % 10 / 10, recorded.started_s or 0.0)
            found.setdefault(session.decode(), []).append(outcome.target)
    return {session: set(targets) for session, targets in found.items() if len(targets) > 2}


# 8


def test_every_name_ends_at_a_dated_snapshot_and_no_other_is_served(kitchen):
    said = kitchen.simulated("pinned-aliases")
    assert all(re.search(r"-\d{4}-?\d{2}-?\d{2}$", target) for target in placed(said))
    assert placed(kitchen.simulated("pinned-aliases", "claude")) == {"gpt-4.1-2025-04-14": KINDS["claude"]}
    closed = kitchen.changed("pinned-aliases", ('models: ["claude-*"]', "models: [claude-opus-4-5]"))
    assert kitchen.simulated(closed, "claude")["after"]["refused"] == {"model_not_found": KINDS["claude"]}


# 9


def test_no_key_gets_more_than_its_share_of_the_strong_target(kitchen):
    kitchen.prepare("untrusted-users")
    capped = kitchen.simulated("untrusted-users", "padded")["after"]
    assert 0 < capped["strong"] <= 0.1 * (KINDS["padded"] + BURST)
    free = kitchen.changed("untrusted-users", (", strong_cap_per_key: 10%", ""))
    assert kitchen.simulated(free, "padded")["after"]["strong"] == KINDS["padded"]


def test_a_trial_names_no_other_model(kitchen):
    named = [line | {"request": line["request"] | {"model": "sonnet"}} for line in chosen("trial")]
    assert placed(kitchen.replayed("untrusted-users", named)) == {"gpt-4.1-mini": KINDS["trial"]}
    text = (kitchen.folder / "untrusted-users.yaml").read_text()
    (kitchen.folder / "open.yaml").write_text(
        re.sub(r"  - name: trial-others.*\n.*\n    target: gpt-4.1-mini\n", "", text)
    )
    assert placed(kitchen.replayed("open", named)) == {"sonnet": KINDS["trial"]}


# 10


def test_nothing_leaves_the_sandbox(kitchen):
    said = kitchen.simulated("sandbox-for-ci")
    assert placed(said).keys() == {"small", "large"}
    assert placed(kitchen.simulated("sandbox-for-ci", "ci")) == {"small": KINDS["ci"]}
    assert said["after"]["refused"] == {}
    policy = (EXAMPLES / "sandbox-for-ci.yaml").read_text()
    assert set(re.findall(r"provider: (\w+)", policy)) == {"sandbox"}
