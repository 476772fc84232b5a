"""`farthing calibrate routing`: a threshold that keeps its promise, or none."""

import contextlib
import csv
import gzip
import random
from functools import partial

import msgspec
import numpy as np
import pytest

from gateway.commands import Rules
from gateway.core.errors import BadRequest
from gateway.database import open_database
from gateway.guarantee.certificate import Certificate, load
from gateway.guarantee.certify import Uncertified
from gateway.ledger.period import moment
from gateway.pricing.book import ModelPrice, Tier
from gateway.routing.calibrate import Promise, calibrate
from gateway.routing.calibrate_commands import Setup, register
from gateway.routing.labels import RoutingLabelStore
from gateway.routing.metric import Rows
from gateway.routing.scorer import open_scorer
from gateway.routing.shares import load_share
from gateway.routing.thresholds import Thresholds
from tests.support import commands
from tests.support.policies import policy
from tests.support.routing_labels import AT_S, label

TARGETS = "targets: {small: {provider: vllm, model: l8}, big: {provider: vllm, model: l70}}\n"


def rule(classify="max_quality_loss: 3%"):
    made = policy(f"{TARGETS}routes: [{{name: r, match: {{}}, classify: {{weak: small, strong: big, {classify}}}}}]\n")
    return made.routes[0].classify


def world(n, seed):
    """Scores that are the chance by which only the strong target is right; the truth about any threshold is known."""
    dice = np.random.default_rng(seed)
    scores = dice.uniform(0, 0.4, n)
    return scores, Rows((dice.random(n) >= scores).astype(float), np.ones(n))


def true_loss(threshold):
    return max(0.0, min(threshold, 0.4)) ** 2 / 2 / 0.4


def made(n, seed, promise=Promise(0.03)):
    scores, rows = world(n, seed)
    return calibrate(
        rule(), scores, rows, promise, versions={"head": "h"}, date="2026-01-01T00:00:00+00:00", data_hash="x"
    )


@pytest.mark.parametrize("strict", [False, True])
def test_the_promise_is_kept_as_often_as_it_says(strict):
    found = [made(1000, seed, Promise(0.03, 0.95, strict)) for seed in range(200)]
    broken = sum(isinstance(each, Certificate) and true_loss(each.threshold) > 0.03 for each in found)
    assert broken <= 200 * 0.05 + 2 * (200 * 0.05 * 0.95) ** 0.5


def test_more_labels_use_the_weak_target_more():
    few, many = made(600, 1), made(20_000, 1)
    assert many.share_accepted > few.share_accepted > 0.1
    assert many.accept == "at_most"
    assert many.versions == {"head": "h", "weak": "l8", "strong": "l70"}


def test_what_is_harder_than_all_that_was_seen_is_not_sent_to_the_weak_target():
    scores = np.linspace(0, 0.2, 1000)
    rows = Rows(np.ones(1000), np.ones(1000))
    found = calibrate(rule(), scores, rows, Promise(0.03), versions={}, date="d", data_hash="x")
    assert found.share_accepted == 1
    assert 0.2 <= found.threshold < 0.203


def test_a_weak_target_that_is_always_wrong_is_not_certified():
    found = calibrate(
        rule(),
        np.full(1000, 0.1),
        Rows(np.zeros(1000), np.ones(1000)),
        Promise(0.03),
        versions={},
        date="d",
        data_hash="x",
    )
    assert isinstance(found, Uncertified)


@pytest.fixture
def data(tmp_path):
    dice = random.Random(3)
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "weak", "strong"])
        for n in range(1200):
            text = f"What is {n}?" if n % 2 else f"Prove that {n} divides n^2 - {n}n, calculate {n * 7} step by step."
            writer.writerow([text, dice.random() < 0.9, dice.random() < 0.9])
    return path


@contextlib.contextmanager
def opened(tmp_path):
    database = open_database(f"sqlite:///{tmp_path}/farthing.db")
    yield database
    database.close()


def price_of(target):
    """$1 and $10 for a million tokens, in and out."""
    return ModelPrice((Tier(*[{"small": 1_000_000, "big": 10_000_000}[target.name]] * 2),))


def run(tmp_path, data, which, *arguments, of_candidate=None):
    setup = Setup(
        lambda path: Rules(path or tmp_path, {"r": of_candidate if path is not None else which}),
        lambda: "minilm",
        partial(opened, tmp_path),
        lambda folder: price_of,
        lambda text, now_s: moment(text, AT_S + 86_400.0),
    )
    source = [] if data is None else ["--data", str(data)]
    return commands.run(partial(register, setup=setup), "routing", "--route", "r", *source, *arguments)


def written(folder, kind):
    """The bytes of the one file there."""
    (path,) = (folder / "certificates").glob(f"{kind}-r-*.json")
    return path.read_bytes()


def test_a_certificate_is_written_that_a_gateway_takes(tmp_path, data, capsys):
    which = rule("max_quality_loss: 10%")
    assert run(tmp_path, data, which, "--json") == 0
    said = capsys.readouterr().out
    assert "certified        up to a gain of" in said
    assert msgspec.json.decode(said.splitlines()[-1])["written"] is True
    certificate = load(written(tmp_path, "routing"))
    parts = {key: value for key, value in certificate.versions.items() if key not in ("weak", "strong")}
    assert Thresholds(tmp_path, lambda tier: parts).of(which).value == certificate.threshold


def test_a_share_is_written_that_a_gateway_takes(tmp_path, data, capsys):
    which = rule("strong_share: 30%")
    assert run(tmp_path, data, which) == 0
    assert "it says nothing of quality" in capsys.readouterr().out
    calibration = load_share(written(tmp_path, "share"), "f")
    parts = {key: value for key, value in calibration.versions.items() if key not in ("weak", "strong")}
    assert Thresholds(tmp_path, lambda tier: parts).of(which).value == calibration.threshold


def test_nothing_is_written_where_nothing_can_be_certified(tmp_path, data, capsys):
    assert run(tmp_path, data, rule(), "--max-quality-loss", "0.1%") == 1
    assert "everything goes to the strong target" in capsys.readouterr().out
    assert not (tmp_path / "certificates").exists()


def test_a_dry_run_writes_nothing(tmp_path, data):
    assert run(tmp_path, data, rule("strong_share: 30%"), "--dry-run") == 0
    assert not (tmp_path / "certificates").exists()


@pytest.mark.parametrize(
    ("classify", "arguments", "says"),
    [
        ("max_quality_loss: 3%", ["--route", "other"], "has no `classify`"),
        ("tier: light", [], "asks for nothing"),
        ("max_quality_loss: 3%", ["--weak", "nothing"], "no column"),
        ("strong_share: 3%", ["--prompt", "nothing"], "no column"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, data, classify, arguments, says):
    with pytest.raises(BadRequest, match=says):
        run(tmp_path, data, rule(classify), *arguments)


def rows_of(tmp_path, header, row, name="rows.csv"):
    """A file of 400 rows, by number."""
    text = "\n".join([header, *(row(number) for number in range(400))])
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return tmp_path / name


def test_what_requests_may_cost_is_calibrated_on_what_the_file_says_they_cost(tmp_path, capsys):
    data = rows_of(
        tmp_path, "prompt,weak_cost,strong_cost", lambda n: f"{'why ' * (n % 50)}{n}?,0.0001,0.001", "rows.csv.gz"
    )
    which = rule("target_cost: $0.55/1k")
    assert run(tmp_path, data, which, "--json") == 0
    said = capsys.readouterr().out
    assert "asked            at most $0.55/1k requests" in said
    assert "warning:" not in said
    found = msgspec.json.decode(said.splitlines()[-1])
    assert found["realised"] == pytest.approx(0.5, abs=0.03)
    low, high = found["cost"]["interval"]
    assert low < found["cost"]["expected"] <= 550_000 < high
    calibration = load_share(written(tmp_path, "share"), "f")
    parts = {key: value for key, value in calibration.versions.items() if key not in ("weak", "strong")}
    assert Thresholds(tmp_path, lambda tier: parts).of(which).value == calibration.threshold
    other = Thresholds(tmp_path, lambda tier: parts).of(rule("target_cost: $0.56/1k"))
    assert (other.value, "another cost" in other.why) == (None, True)


def test_what_requests_cost_is_tokens_by_the_prices_of_the_targets(tmp_path, capsys):
    """100 tokens in and 50 out: 150 micro-USD at the weak target; 100 out, 2,000 at the strong one."""
    data = rows_of(tmp_path, "prompt,input_tokens,weak_tokens,strong_tokens", lambda n: f"{'why ' * n}?,100,50,100")
    with pytest.raises(BadRequest, match=r"the least is \$0\.15/1k, all at the strong target \$2\.00/1k"):
        run(tmp_path, data, rule(), "--target-cost", "$0.1/1k")
    assert run(tmp_path, data, rule(), "--target-cost", "1/1k") == 0
    assert "will not take this; fix: `target_cost: $1/1k` in its `classify`" in capsys.readouterr().out


def test_without_costs_there_is_no_calibration_of_them(tmp_path, data):
    with pytest.raises(BadRequest, match="what requests cost is not known; fix: columns weak_cost"):
        run(tmp_path, data, rule(), "--target-cost", "$1/1k")


@pytest.mark.parametrize("text", ["$1", "$1/k", "1/1k/1k", "-1/1k", "$0/1k", "1.0000001/1k"])
def test_a_cost_is_written_for_1000_requests(tmp_path, data, text, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path, data, rule(), f"--target-cost={text}")
    assert "write $0." in capsys.readouterr().err


VERSIONS = {**open_scorer(embed=False).versions("light", None), "weak": "l8", "strong": "l70"}


def labelled(tmp_path, count=1000, **changed):
    """Live labels of a world in which the weak target is worse where the score is high."""
    dice = np.random.default_rng(3)
    with opened(tmp_path) as database:
        store = RoutingLabelStore(database)
        store.migrate()
        for n in range(count):
            score = float(dice.uniform(0, 0.4))
            members = {
                "request_id": f"{changed.get('source', 'judged')}-{changed.get('tenant', '')}{n}",
                "at_s": AT_S + n, "tier": "light", "score": score, "versions": VERSIONS, "weight": 50.0,
                "weak_quality": float(dice.random() >= score), "strong_quality": 1.0, "weak_cost_micro": 100,
                "strong_cost_micro": 1000,
            }  # fmt: skip
            store.add(label(n, **members | changed))


def test_live_labels_certify_a_threshold_that_a_gateway_takes(tmp_path, capsys):
    labelled(tmp_path)
    which = rule()
    assert run(tmp_path, None, which) == 0
    said = capsys.readouterr().out
    assert "from             1000 labels" in said
    assert "warning: all labels are of 0.3 hours" in said
    made = load(written(tmp_path, "routing"))
    assert made.n == 1000
    assert true_loss(made.threshold) < 0.03
    parts = {key: value for key, value in VERSIONS.items() if key not in ("weak", "strong")}
    assert Thresholds(tmp_path, lambda tier: parts).of(which).value == made.threshold
    cost = (made.share_accepted * 100 + (1 - made.share_accepted) * 1000) / 1000
    assert f"cost             ${cost:.3f}/1k requests; $" in said


def test_only_sampled_labels_of_the_parts_in_force_count_and_the_others_are_told_of(tmp_path, capsys):
    labelled(tmp_path, 300, tenant="a")
    labelled(tmp_path, 20, tenant="b", versions={**VERSIONS, "head": "older"})
    labelled(tmp_path, 10, source="feedback", weight=1.0)
    run(tmp_path, None, rule(), "--from-labels", "--json")
    said = capsys.readouterr().out
    assert "300 labels, 20 left out (another head), 10 left out (feedback is no sample)" in said
    assert msgspec.json.decode(said.splitlines()[-1])["n"] == 300


def test_labels_by_rates_of_sampling_certify_what_they_stand_for(tmp_path, capsys):
    """The first half was sampled one in twenty, the second one in a hundred, and is most of the traffic."""
    labelled(tmp_path, 600, tenant="a", weight=20.0, strong_quality=0.0, weak_quality=1.0, score=0.1)
    labelled(tmp_path, 600, tenant="b", weight=100.0, strong_quality=1.0, weak_quality=0.0, score=0.21)
    assert run(tmp_path, None, rule()) == 0
    made = load(written(tmp_path, "routing"))
    assert made.share_accepted == pytest.approx(1 / 6)
    assert made.realised == pytest.approx(-1 / 6)
    assert made.reference.edges == (0.1, 0.21)
    assert made.reference.shares == pytest.approx((1 / 6, 5 / 6, 0))


def test_a_share_of_live_labels_is_theirs_by_weight(tmp_path, capsys):
    labelled(tmp_path, 900, weight=100.0)
    assert run(tmp_path, None, rule("strong_share: 30%")) == 0
    assert "strong           30.0% of the requests" in capsys.readouterr().out


def test_costs_that_are_not_known_are_in_no_figure_of_money(tmp_path, capsys):
    labelled(tmp_path, 400, tenant="a")
    labelled(tmp_path, 100, tenant="b", weak_cost_micro=None)
    assert run(tmp_path, None, rule("target_cost: $0.55/1k"), "--json") == 0
    said = capsys.readouterr().out
    assert "warning: 100 of 500 requests have no known cost" in said
    assert msgspec.json.decode(said.splitlines()[-1])["n"] == 400


def test_without_labels_it_says_what_to_do(tmp_path):
    with pytest.raises(BadRequest, match=r"has 0 labels since 30d; fix: `compare: 2%` on the route"):
        run(tmp_path, None, rule())
    labelled(tmp_path, 3)
    with pytest.raises(BadRequest, match="3 labels: 3 scores; at least 200"):
        run(tmp_path, None, rule("strong_share: 30%"))
    with pytest.raises(BadRequest, match="has 0 labels since 2100-01-01"):
        run(tmp_path, None, rule(), "--since", "2100-01-01")


def test_few_labels_certify_nothing_and_the_certificate_that_is_there_stays(tmp_path, capsys):
    labelled(tmp_path, 30)
    assert run(tmp_path, None, rule()) == 1
    said = capsys.readouterr().out
    assert "everything goes to the strong target" in said
    assert "keeps the certificate" not in said
    labelled(tmp_path, tenant="b")
    assert run(tmp_path, None, rule()) == 0
    (path,) = (tmp_path / "certificates").iterdir()
    before = path.read_bytes()
    labelled(tmp_path, 900, tenant="c", strong_quality=1.0, weak_quality=0.0, score=0.0)
    capsys.readouterr()
    assert run(tmp_path, None, rule()) == 1
    assert f"the route keeps the certificate that it has; without {path.name}" in capsys.readouterr().out
    assert path.read_bytes() == before


def test_a_candidate_is_certified_beside_the_policy_in_force_and_nothing_is_removed(tmp_path, data, capsys):
    now, candidate = rule("max_quality_loss: 10%"), rule("max_quality_loss: 12%")
    assert run(tmp_path, data, now) == 0
    assert "beside" not in capsys.readouterr().out
    (first,) = (tmp_path / "certificates").iterdir()
    made = first.read_bytes()
    (tmp_path / "candidate").mkdir()
    assert run(tmp_path, data, now, "--candidate", str(tmp_path / "candidate"), "--json", of_candidate=candidate) == 0
    said = capsys.readouterr().out
    assert f"beside           {first.name}: kept for policies that they fit" in said
    assert msgspec.json.decode(said.splitlines()[-1])["beside"] == [first.name]
    assert not list((tmp_path / "candidate").iterdir()), "gateways read the policy's folder alone"
    second = next(each for each in (tmp_path / "certificates").iterdir() if each != first)
    parts = {key: value for key, value in load(made).versions.items() if key not in ("weak", "strong")}
    thresholds = Thresholds(tmp_path, lambda tier: parts)
    assert first.read_bytes() == made
    assert (thresholds.standing(now).file, thresholds.standing(candidate).file) == (first.name, second.name)
    assert run(tmp_path, data, now) == 0, "calibrated again it takes the place of the one for the same"
    assert {each.name for each in (tmp_path / "certificates").iterdir()} == {first.name, second.name}


def test_a_tier_that_needs_live_traffic_scores_no_file(tmp_path, data):
    with pytest.raises(BadRequest, match=r"cannot score a file.*--from-labels"):
        run(tmp_path, data, rule("tier: neighbours, max_quality_loss: 3%"))


def test_a_promise_that_is_less_than_the_policys_is_warned_of(tmp_path, data, capsys):
    run(tmp_path, data, rule(), "--max-quality-loss", "10%")
    assert "fix: `max_quality_loss: 10%`" in capsys.readouterr().out
    run(tmp_path, data, rule(), "--confidence", "90%")
    assert "will not take this" in capsys.readouterr().out
    run(tmp_path, data, rule(), "--target-strong", "12.5%")
    assert "fix: `strong_share: 12.5%`" in capsys.readouterr().out
    run(tmp_path, data, rule(), "--max-quality-loss", "2%", "--confidence", "99%")
    assert "will not take this" not in capsys.readouterr().out
