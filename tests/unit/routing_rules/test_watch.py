"""Calibrations under watch: traffic that moved, labels that refute, and who is told; on a real database."""

import json
import random

import msgspec
import pytest

from gateway.core.exchange import Choice
from gateway.database import DatabaseError, open_database
from gateway.guarantee.certificate import WINDOW, Certificate, binding_of, dump, path_of, seal
from gateway.routing.calibrate import Promise, calibrate
from gateway.routing.drift import CAPPED
from gateway.routing.labels import RoutingLabelStore
from gateway.routing.marks import MarkStore
from gateway.routing.metric import Rows
from gateway.routing.shares import calibrate_share, dump_share, share_path
from gateway.routing.thresholds import Thresholds
from gateway.routing.watch import LAG_S, Watcher
from tests.support.policies import policy
from tests.support.records import record
from tests.support.routing_labels import label

PARTS = {"head": "h"}
VERSIONS = {**PARTS, "weak": "l8", "strong": "l70"}
DATE, ISSUED_S = "2026-01-01T00:00:00+00:00", 1_767_225_600.0
TARGETS = "targets: {small: {provider: vllm, model: l8}, big: {provider: vllm, model: l70}}\n"


def policy_of(classify):
    return policy(f"{TARGETS}routes: [{{name: r, match: {{}}, classify: {{weak: small, strong: big, {classify}}}}}]\n")


CERTIFIED, SHARED = policy_of("max_quality_loss: 3%"), policy_of("strong_share: 30%")


class World:
    """One replica: a policy's folder, a database and a clock."""

    def __init__(self, folder, of, name="farthing.db"):
        self.database = open_database(f"sqlite:///{folder}/{name}")
        self.policy = of
        self.beside = []
        self.now_s = ISSUED_S + 3600
        self.alerts = []
        self.thresholds = Thresholds(folder, lambda tier: PARTS)
        self.labels = RoutingLabelStore(self.database)
        self.labels.migrate()
        marks = MarkStore(self.database)
        self.watcher = Watcher(
            lambda: [*self.beside, self.policy], self.thresholds, self.labels, marks, lambda *said: self.alerts.append(said), lambda: self.now_s
        )  # fmt: skip
        self.watcher.recall()

    @property
    def threshold(self):
        return self.thresholds.of(self.policy.routes[0].classify)

    def see(self, scores, by=None, **changed):
        """Requests that were decided by the threshold of the policy `by`, that in force without one."""
        by = by or self.policy
        threshold = self.thresholds.of(by.routes[0].classify)
        value, certificate = threshold.value, threshold.certificate
        for score in scores:
            side = "weak" if value is not None and score <= value else "strong"
            choice = Choice(side, "score" if value is not None else "uncertified", "light", score, value, certificate)
            choice = msgspec.structs.replace(choice, **changed)
            self.watcher.consume([record(route="r", policy=by.hash, choice=choice, key="k1", tenant="shop")])


@pytest.fixture
def world(tmp_path):
    opened = []

    def make(of, **more):
        opened.append(World(tmp_path, of, **more))
        return opened[-1]

    yield make
    for each in opened:
        each.database.close()


def traffic(count, shift=0.0, seed=1):
    dice = random.Random(seed)
    return [dice.uniform(0, 0.4) + shift for _ in range(count)]


def put(folder, path, data):
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_bytes(data)


def certify(folder):
    """A certificate up to about 0.1, of a weak target that fails as often as the score says."""
    import numpy as np

    dice = np.random.default_rng(1)
    scores = np.array(traffic(5000))
    rows = Rows((dice.random(5000) >= scores).astype(float), np.ones(5000))
    made = calibrate(
        CERTIFIED.routes[0].classify, scores, rows, Promise(0.03), versions=PARTS, date=DATE, data_hash="x"
    )
    assert isinstance(made, Certificate), made
    put(folder, path_of("routing", "r"), dump(made))
    return made


def share(folder):
    made = calibrate_share(traffic(2000), 0.3, route="r", date=DATE, versions=VERSIONS)
    put(folder, share_path("r"), dump_share(made))
    return made


def evidence(world):
    """Of the one certificate in service."""
    (held,) = world.watcher._evidence.values()
    return held


def stale(watcher):
    return {route: each.stale for route, each in watcher.standings()}


async def test_a_certificate_that_traffic_has_left_behind_sends_everything_to_the_strong_target(
    tmp_path, world, caplog
):
    made = certify(tmp_path)
    here = world(CERTIFIED)
    here.see(traffic(3 * WINDOW, seed=2))
    assert here.threshold.value == made.threshold
    here.see(traffic(WINDOW, 0.3))
    assert here.threshold.value is None
    assert here.threshold.why.startswith("stale: ")
    assert "everything goes to the strong target until it is calibrated again" in caplog.text
    ((kind, members),) = here.alerts
    assert kind == "routing.calibration_stale"
    assert members["route"] == "r"
    assert (members["certified"], members["calibration"], members["at_s"]) == (True, made.hash, here.now_s)
    assert json.dumps(members)
    here.see(traffic(3 * WINDOW, 0.3))
    assert len(here.alerts) == 1, "it is said once"


async def test_a_share_that_traffic_has_left_behind_still_decides(tmp_path, world, caplog):
    made = share(tmp_path)
    here = world(SHARED)
    here.see(traffic(WINDOW, 0.3))
    assert here.threshold.value == made.threshold
    assert here.threshold.why.startswith("uncertified; stale: ")
    assert stale(here.watcher)["r"].startswith("stale: ")
    assert "it still decides until it is calibrated again" in caplog.text
    assert here.alerts[0][1]["certified"] is False


async def test_what_is_stale_stays_so_for_every_replica_and_after_a_restart(tmp_path, world):
    made = certify(tmp_path)
    first, second = world(CERTIFIED), world(CERTIFIED)
    first.see(traffic(WINDOW, 0.3))
    await first.watcher.look()
    assert second.threshold.value == made.threshold
    await second.watcher.look()
    assert second.threshold.value is None
    assert second.alerts == [], "the replica that found it has told"
    third = world(CERTIFIED)
    assert third.threshold.value is None, "before its first request"
    newer = msgspec.structs.replace(made, date="2026-02-01T00:00:00+00:00")
    from gateway.guarantee.certificate import seal

    put(tmp_path, path_of("routing", "r"), dump(seal(newer)))
    third.thresholds.certificates.refresh()
    assert third.threshold.value == made.threshold, "a new calibration is not stale"


async def test_a_database_that_is_away_marks_this_process_and_the_others_later(tmp_path, world):
    certify(tmp_path)
    here = world(CERTIFIED)
    kept, here.watcher._marks = here.watcher._marks, _Away()
    here.see(traffic(WINDOW, 0.3))
    await here.watcher.look()
    assert here.threshold.value is None
    here.watcher._marks = kept
    await here.watcher.look()
    assert world(CERTIFIED).threshold.value is None


class _Away:
    """A store whose database does not answer."""

    def add(self, mark):
        raise DatabaseError("away")

    def all(self):
        raise DatabaseError("away")


@pytest.mark.parametrize(
    "changed",
    [{"why": "asked"}, {"why": "embed_unavailable"}, {"threshold": 0.7}, {"score": None}, {"why": "uncertified"}],
)
async def test_requests_that_the_threshold_did_not_decide_say_nothing_of_it(tmp_path, world, changed):
    certify(tmp_path)
    here = world(CERTIFIED)
    here.see(traffic(2 * WINDOW, 0.3), **changed)
    assert here.alerts == []


async def test_the_realised_share_counts_what_the_classifier_chose(tmp_path, world):
    share(tmp_path)
    here = world(SHARED)
    here.see([0.0] * 300)
    here.see([0.9] * 100)
    here.see([0.9] * 500, why="asked")
    here.see([0.9] * 500, why="sensitive")
    assert here.watcher.shares.all() == [("r", 0.25)]


def compared(here, count, gain, since=0, **changed):
    """Sampled labels of requests with low scores, whose weak answer is worse with this probability."""
    dice = random.Random(7)
    for n in range(since, since + count):
        lost = dice.random() < gain
        members = {"at_s": ISSUED_S + n, "tier": "light", "score": 0.01, "versions": VERSIONS, "weak_quality": 1.0 - lost,
                   "strong_quality": 1.0}  # fmt: skip
        here.labels.add(label(n, **members | changed))


async def test_labels_that_refute_a_certificate_end_it(tmp_path, world, caplog):
    made = certify(tmp_path)
    here = world(CERTIFIED)
    compared(here, 400, 0.3)
    await here.watcher.look()
    assert here.threshold.value is None
    assert here.threshold.why.startswith("refuted by live traffic: a loss of ")
    ((kind, members),) = here.alerts
    assert (kind, members["calibration"]) == ("routing.calibration_refuted", made.hash)
    assert world(CERTIFIED).threshold.value is None


async def test_labels_that_agree_leave_it_and_the_loss_is_shown(tmp_path, world):
    made = certify(tmp_path)
    here = world(CERTIFIED)
    compared(here, 400, 0.01)
    await here.watcher.look()
    assert here.threshold.value == made.threshold
    losses = {part: value for _, part, value in here.watcher.losses()}
    assert (losses["target"], losses["bound"]) == (0.03, made.upper_bound)
    assert losses["live"] == pytest.approx(0.01, abs=0.01)


@pytest.mark.parametrize(
    "changed",
    [{"source": "feedback"}, {"versions": {**VERSIONS, "weak": "l7"}}, {"score": 0.39}, {"route": "other"}, {"at_s": ISSUED_S - 1}],
)  # fmt: skip
async def test_labels_of_other_decisions_refute_nothing(tmp_path, world, changed):
    """People's word is no sample; a score over the threshold loses nothing; others are of another certificate."""
    made = certify(tmp_path)
    here = world(CERTIFIED)
    compared(here, 400, 1.0, **changed)
    await here.watcher.look()
    assert here.threshold.value == made.threshold


async def test_labels_are_read_once_and_those_that_come_late_are_not_missed(tmp_path, world):
    certify(tmp_path)
    here = world(CERTIFIED)
    here.now_s = ISSUED_S + 100 + LAG_S
    compared(here, 300, 0.0)
    await here.watcher.look()
    assert evidence(here).watch.seen == 100
    compared(here, 50, 0.0, since=1000, at_s=ISSUED_S + 100.5)
    here.now_s = ISSUED_S + 300 + LAG_S
    await here.watcher.look()
    assert evidence(here).watch.seen == 350


async def test_another_rate_of_sampling_weighs_its_labels(tmp_path, world):
    """Few rows that stand for many show the loss of the traffic, not that of the rows."""
    certify(tmp_path)
    here = world(CERTIFIED)
    compared(here, 300, 0.0, weight=10.0)
    await here.watcher.look()
    compared(here, 100, 1.0, since=3600, weight=100.0)
    here.now_s += 200
    await here.watcher.look()
    held = evidence(here).watch
    assert held.heaviest == 100.0
    assert held.refuted


async def test_a_key_that_runs_into_its_cap_is_told_of_once(tmp_path, world):
    share(tmp_path)
    here = world(SHARED)
    here.see([0.9] * (3 * CAPPED), why="strong_cap", target="weak")
    assert here.alerts == [("routing.strong_cap", {"route": "r", "tenant": "shop", "key": "k1", "at_s": here.now_s})]


async def test_without_a_database_the_process_watches_alone(tmp_path):
    certify(tmp_path)
    said = []
    thresholds = Thresholds(tmp_path, lambda tier: PARTS)
    watcher = Watcher(lambda: [CERTIFIED], thresholds, None, None, lambda *each: said.append(each), lambda: ISSUED_S)
    watcher.recall()
    threshold = thresholds.of(CERTIFIED.routes[0].classify)
    choice = Choice("strong", "score", "light", 0.9, threshold.value, threshold.certificate)
    watcher.consume([record(route="r", policy=CERTIFIED.hash, choice=choice)] * WINDOW)
    await watcher.look()
    assert thresholds.of(CERTIFIED.routes[0].classify).value is None
    assert len(said) == 1


def certify_candidate(folder, candidate):
    """One for the other model of a candidate, as bold as that of the policy in force."""
    rule = candidate.routes[0].classify
    made = msgspec.structs.replace(certify(folder), versions={**PARTS, **rule.versions}, hash="")
    put(folder, path_of("routing", "r", binding_of(made.alpha, made.delta, made.versions)), dump(seal(made)))
    return seal(made)


def candidate_of(model):
    targets = TARGETS.replace("l8", model)
    choice = "{weak: small, strong: big, max_quality_loss: 3%}"
    return policy(f"{targets}routes: [{{name: r, match: {{}}, classify: {choice}}}]\n")


async def test_a_candidates_own_certificate_is_watched_and_ends_alone(tmp_path, world):
    candidate = candidate_of("l9")
    made = certify_candidate(tmp_path, candidate)
    here = world(CERTIFIED)
    here.beside = [candidate]
    for score in traffic(WINDOW, seed=3):
        here.see([score])
        here.see([0.9], by=candidate)
    ((_, members),) = here.alerts
    assert members["calibration"] == made.hash
    assert here.threshold.value == made.threshold
    assert here.thresholds.of(candidate.routes[0].classify).value is None


async def test_labels_of_a_candidates_models_refute_its_certificate_alone(tmp_path, world):
    candidate = candidate_of("l9")
    certify_candidate(tmp_path, candidate)
    here = world(CERTIFIED)
    here.beside = [candidate]
    compared(here, 300, 1.0, versions={**VERSIONS, "weak": "l9"})
    await here.watcher.look()
    assert here.threshold.value is not None
    assert "refuted by live traffic" in here.thresholds.of(candidate.routes[0].classify).why
