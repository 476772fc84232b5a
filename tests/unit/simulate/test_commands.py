"""`farthing policy diff | simulate | explain`, from the command line to what is printed and the exit status."""

import gzip
import json

import pytest

from gateway.cli import main
from gateway.database import open_database
from gateway.ledger.rows import build
from gateway.ledger.store import LedgerStore
from tests.support.ledger_rows import ended, traffic
from tests.support.records import attempt
from tests.support.simulations import body

OLD = """
version: 1
targets:
  a: {provider: openai, model: gpt-4o, api_key: env:NOT_SET_HERE, price: {input: $10, output: $20}}
  b: {provider: openai, model: gpt-4o-mini, api_key: env:NOT_SET_HERE, price: {input: $1, output: $2}}
routes:
  - {name: chat, match: {models: [fast, auto]}, target: a}
"""
NEW = OLD.replace("target: a}", "target: b}")
DEARER = OLD.replace("target: a}", "target: b}").replace("$1,", "$100,")


@pytest.fixture
def policies(tmp_path):
    for name, text in (("old", OLD), ("new", NEW), ("dearer", DEARER)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.yaml").write_text(text)
    return tmp_path


@pytest.fixture
def ledger(tmp_path):
    """A thousand requests of three tenants in a week, and one that was retried."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    database = open_database(url)
    store = LedgerStore(database)
    store.migrate()
    store.insert(build([*traffic(1000, 3, "2026-11-01", 168)], 100, lambda: None))
    database.close()
    return url


def run(capsys, *arguments) -> tuple[int, str]:
    status = main(["policy", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def simulated(capsys, policies, new, *more) -> tuple[int, dict]:
    status, said = run(capsys, "simulate", "--policy", policies / new, "--json", *more)
    return status, json.loads(said)


def test_a_ledger_is_replayed_against_the_policy_that_was_in_force(capsys, policies, ledger):
    status, said = simulated(capsys, policies, "new", "--baseline-policy", policies / "old", "--traffic", ledger)
    assert status == 0
    assert said["requests"] == said["before"]["requests"] == 1000
    assert said["change"]["cost"]["value"] == pytest.approx(-0.9, abs=1e-4)
    assert said["cost_compared"]["requests"] + said["after"]["unknown_cost"] == 1000
    assert {place["target"] for place in said["after"]["places"]} == {"b"}
    assert set(said["tenants"]) == {"shop", "lab", "ops"}
    assert sum(tenant["requests"] for tenant in said["tenants"].values()) == 1000
    assert said["quality"]["by"] == "unknown"


def test_a_ledger_is_compared_with_itself_where_no_other_policy_is_given(capsys, policies, ledger):
    status, said = simulated(capsys, policies, "new", "--traffic", ledger)
    assert status == 0
    assert said["old"] is None
    assert {place["route"] for place in said["before"]["places"]} == {"chat", "batch"}


def test_the_ledger_of_the_settings_is_the_default(capsys, policies, ledger, monkeypatch):
    monkeypatch.setenv("FARTHING_DATABASE", ledger)
    assert simulated(capsys, policies, "new")[1]["requests"] == 1000


def test_a_period_is_replayed_alone(capsys, policies, ledger):
    period = ("--since", "2026-11-03", "--until", "2026-11-04")
    _, said = simulated(capsys, policies, "new", "--traffic", ledger, *period)
    assert 0 < said["requests"] < 300
    assert said["since"] >= 1793664000
    assert said["until"] < 1793750400


def test_pages_of_a_ledger_are_read_without_loss(capsys, policies, ledger, monkeypatch):
    monkeypatch.setattr("gateway.simulate.ledger.PAGE", 7)
    assert simulated(capsys, policies, "new", "--traffic", ledger)[1]["requests"] == 1000


def test_failed_attempts_are_in_neither_cost(capsys, policies, tmp_path):
    database = open_database(f"sqlite:///{tmp_path}/one.db")
    store = LedgerStore(database)
    store.migrate()
    tries = (attempt(cost_micro_usd=700), attempt(cost_micro_usd=300))
    store.insert(build([ended("2026-11-01", 1000, attempts=tries)], 10, lambda: None))
    database.close()
    _, said = simulated(capsys, policies, "new", "--traffic", tmp_path / "one.db")
    assert (said["cost_compared"]["old_usd"], said["retries_usd"]) == ("0.000300", "0.000700")


@pytest.mark.parametrize(
    ("new", "condition", "status", "said"),
    [
        ("new", "cost>+5%", 0, "holds"),
        ("dearer", "cost>+5%", 1, "fires"),
        ("new", "cost<-50%", 1, "fires"),
        ("new", "quality<-1%", 1, "unknown"),
        ("new", "undecided>0%", 0, "holds"),
        ("new", "cost>+5%,refused>0%", 0, "holds"),
    ],
)
def test_conditions_decide_the_exit_status(capsys, policies, ledger, new, condition, status, said):
    more = ("--baseline-policy", policies / "old", "--traffic", ledger, "--fail-on", condition)
    found = simulated(capsys, policies, new, *more)
    assert found[0] == status
    assert found[1]["failed"] == bool(status)
    assert found[1]["fail_on"][0]["status"] == said


def test_a_condition_that_makes_no_sense_is_refused_before_anything_is_read(capsys, policies):
    more = ("--traffic", "nowhere.jsonl", "--fail-on", "speed>1%")
    status, said = run(capsys, "simulate", "--policy", policies / "new", *more)
    assert status == 2
    assert said.startswith("farthing: --fail-on: 'speed' is not measured; fix: one of cost, quality,")


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "traffic.jsonl.gz"
    said = [
        {
            "tenant": f"t{number % 3}",
            "time": f"2026-11-01T{number % 24:02d}:00:00Z",
            "request": body(f"question {number % 50}"),
            "usage": {"prompt_tokens": 100, "completion_tokens": 20},
            "target": "a",
            "route": "chat",
            "cost_usd": "0.0014",
            "quality": {"a": 1, "b": number % 4 > 0},
        }
        for number in range(200)
    ]
    with gzip.open(path, "wb") as file:
        file.writelines(json.dumps(line).encode() + b"\n" for line in said)
    return path


def test_a_file_with_labels_says_how_quality_changes(capsys, policies, lines):
    status, said = simulated(capsys, policies, "new", "--traffic", lines, "--fail-on", "quality<-1%,cost>+5%")
    assert status == 1
    assert said["change"]["quality"]["value"] == pytest.approx(-0.25)
    assert said["change"]["quality"]["low"] < -0.25 < said["change"]["quality"]["high"]
    assert said["change"]["cost"]["value"] == pytest.approx(-0.9)
    assert [verdict["status"] for verdict in said["fail_on"]] == ["fires", "holds"]


def test_the_report_is_printed_for_people(capsys, policies, lines):
    status, said = run(capsys, "simulate", "--policy", policies / "new", "--traffic", lines, "--fail-on", "cost>+5%")
    assert status == 0
    for part in ("cost of 200 requests", "-90.00 %", "Where requests go", "Tenants", "cost>+5%: holds at -90.00 %"):
        assert part in said


def test_the_report_is_printed_for_a_pull_request(capsys, policies, lines):
    more = ("--traffic", lines, "--markdown", "--fail-on", "cost<-5%")
    status, said = run(capsys, "simulate", "--policy", policies / "new", *more)
    assert status == 1
    assert said.startswith("## Policy simulation: failed\n")
    assert "| cost of 200 requests |" in said


POOLED = """
version: 1
pools: {p: {replicas: ["http://v:1"], gpu_hour_usd: $2, input_tokens_per_s: 1, output_tokens_per_s: 1}}
targets: {own: {pool: p, model: m}}
sensitive: {tenants: [t0]}
routes: [{name: chat, match: {models: [auto]}, target: own, cache: {exact: 1h}}]
budgets: [{scope: "tenant:t1", limit: $40/day, soft: [1%, 50%]}, {scope: "tenant:t2", limit: $0.000001/day}]
"""


def test_pools_budgets_hits_and_what_stays_inside_are_told(capsys, policies, lines):
    (policies / "new" / "policy.yaml").write_text(POOLED)
    more = ("--traffic", lines, "--fail-on", "pool>50%")
    status, said = run(capsys, "simulate", "--policy", policies / "new", *more)
    assert status == 0
    for part in ("Pools, as a share of their stated rates\npool  requests", "Budgets, the fullest first\nbudget", "Hits:\n",
                 "Sensitive requests:\n  67 stay inside, 0 leave, 0 are refused", "pool>50%: holds at +"):  # fmt: skip
        assert part in said, said
    told = simulated(capsys, policies, "new", "--traffic", lines)[1]
    assert [(each["budget"], each["refused"] > 0) for each in told["budgets"]] == [
        ("tenant:t1/day", False),
        ("tenant:t2/day", True),
    ]
    assert told["budgets"][0]["passed"]["0.5"] == 0
    assert told["pools"][0]["busiest"] == told["change"]["pool"]["value"] > 0
    assert told["after"]["hit_kinds"] == {"exact": told["after"]["hits"]}
    assert simulated(capsys, policies, "new", "--traffic", lines, "--fail-on", "pool>1%")[0] == 1


def test_a_line_that_is_wrong_is_named(capsys, policies, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"model": "auto"}\n\n{"model": 7}\n')
    status, said = run(capsys, "simulate", "--policy", policies / "new", "--traffic", path)
    assert status == 2
    assert f"{path}:3: " in said


@pytest.mark.parametrize("named", ["missing.jsonl", "missing.db", "sqlite:///missing.db"])
def test_traffic_that_is_not_there_is_told_with_the_fix(capsys, policies, named):
    status, said = run(capsys, "simulate", "--policy", policies / "new", "--traffic", named)
    assert status == 2
    assert "; fix: " in said


def test_a_policy_with_errors_is_told_as_lint_tells_it(capsys, policies, lines):
    (policies / "new" / "policy.yaml").write_text(NEW.replace("target: b}", "target: c}"))
    for command in (
        ("simulate", "--policy", policies / "new", "--traffic", lines),
        ("diff", policies / "old", policies / "new"),
    ):
        status, said = run(capsys, *command)
        assert status == 2
        assert "policy.yaml:7: routes[0].target: unknown target 'c'" in said


def test_a_diff_exits_1_only_when_it_is_asked_to(capsys, policies):
    old, new = policies / "old", policies / "new"
    assert run(capsys, "diff", old, new) == (0, "routes\n  ~ chat: target: a -> b\n")
    assert run(capsys, "diff", old, new, "--exit-code")[0] == 1
    assert run(capsys, "diff", old, old, "--exit-code") == (0, "the policies mean the same\n")
    assert json.loads(run(capsys, "diff", old, new, "--json")[1])["same"] is False


def test_a_diff_tells_prices_that_move(capsys, policies):
    _, said = run(capsys, "diff", policies / "new", policies / "dearer")
    assert "  ~ b: price: input $1, output $2 -> input $100, output $2\n" in said
    assert "  ~ b: input: $1 per million -> $100 per million\n" in said


def test_a_request_is_explained(capsys, policies, tmp_path):
    request = tmp_path / "request.json"
    request.write_text(json.dumps(body("hello", max_tokens=100)))
    status, said = run(capsys, "explain", "--policy", policies / "new", "--request", request, "--tenant", "shop")
    assert status == 0
    assert "  > chat: caller and model fit\n" in said
    assert "x-farthing-route: route=chat\n" in said
    told = json.loads(run(capsys, "explain", "--policy", policies / "new", "--request", request, "--json")[1])
    assert told["targets"] == ["b"]
    assert told["price"]["expected"] == told["price"]["expected_input_tokens"] + 200


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--header", "x"), "--header: 'x' is no header"),
        (("--path", "/v2"), "--path: '/v2' is no endpoint"),
        (("--draw", "1"), "--draw"),
        (("--output-tokens", "-3"), "--output-tokens: -3"),
        (("--key", "web"), "the policy has no key 'web'"),
        (("--at", "soon"), "--at"),
    ],
)
def test_arguments_of_explain_that_are_wrong_are_named(capsys, policies, tmp_path, more, said):
    request = tmp_path / "request.json"
    request.write_text(json.dumps(body("hello")))
    status, told = run(capsys, "explain", "--policy", policies / "new", "--request", request, *more)
    assert status == 2
    assert said in told
