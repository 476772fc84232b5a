"""Policies with their calibrations and heads, and the traffic file that the documentation shows."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from gateway.core.errors import BadRequest
from gateway.core.exchange import Identity
from gateway.protocol.openai import parse_call
from gateway.routing.shares import calibrate_share, dump_share, share_path
from gateway.simulate.replay import replay
from gateway.simulate.sources import load_policy, open_traffic
from gateway.simulate.traffic import read_line
from gateway.simulate.world import Before
from tests.support.simulations import BEGIN_S, BOOK, TARGETS, body, seen

DOCS = Path(__file__).parents[3] / "docs" / "policy-simulate.md"
CHOOSES = (
    "version: 1\n"
    + TARGETS
    + "routes: [{name: chat, match: {}, classify: {weak: fast, strong: smart, strong_share: 30%}}]\n"
)
TEXTS = [f"{'Prove that' if number % 3 else 'Say hi to'} {'x ' * (number % 40)} {number}?" for number in range(300)]


def loaded(folder: Path, text: str = CHOOSES):
    (folder / "policy.yaml").write_text(text)
    return load_policy(folder, lambda _: BOOK, lambda: "minilm")


def calibrated(folder: Path) -> None:
    """A calibration of the route for a share of 30 %, by the head that is shipped."""
    found = loaded(folder)
    rule = found.policy.routes[0].classify
    scores = []
    for text in TEXTS:
        raw = msgspec.json.encode(body(text))
        call = parse_call("chat", "POST", "/v1/chat/completions", b"", [], {}, raw)
        scores.append(found.scores(rule, call, Identity("default", "open")).score)
    versions = {**found.scores.versions("light"), **rule.versions}
    path = folder / share_path("chat")
    path.parent.mkdir()
    path.write_bytes(dump_share(calibrate_share(scores, 0.3, route="chat", date="2026-11-01", versions=versions)))


def test_bodies_are_scored_by_the_shipped_head_against_the_calibration_beside_the_policy(tmp_path):
    calibrated(tmp_path)
    found = loaded(tmp_path)
    assert found.uncertain() == []
    tally = replay((seen(text) for text in TEXTS), found.world(Before()), None, seed=1, now_s=BEGIN_S)
    assert tally.undecided_requests == 0
    assert 0.2 <= tally.new.strong / len(TEXTS) <= 0.3


def test_policies_that_are_replayed_together_score_a_request_once(tmp_path):
    calibrated(tmp_path)
    first = loaded(tmp_path)
    second = load_policy(tmp_path, lambda _: BOOK, lambda: "minilm", first)
    assert second.scores is first.scores
    rule, texts = first.policy.routes[0].classify, [seen(text) for text in TEXTS[:20]]
    alone = loaded(tmp_path).scores
    for recorded in texts:
        once, again = (each.scores(rule, recorded.call, recorded.identity) for each in (first, second))
        assert again is once
        assert once == alone(rule, recorded.call, recorded.identity)
    plain = loaded(tmp_path, "version: 1\n" + TARGETS)
    (tmp_path / "policy.yaml").write_text(CHOOSES)
    assert load_policy(tmp_path, lambda _: BOOK, lambda: "minilm", plain).scores is not plain.scores


def test_without_a_calibration_the_route_is_said_to_be_strong_alone(tmp_path):
    ((rule, threshold),) = loaded(tmp_path).uncertain()
    assert rule.route == "chat"
    assert threshold.why.startswith("not calibrated yet")


def test_a_policy_that_scores_nothing_opens_no_head(tmp_path):
    found = loaded(tmp_path, "version: 1\n" + TARGETS)
    assert found.scores.missing == ""
    assert found.uncertain() == []


def test_the_documented_line_is_one():
    (example,) = re.findall(r"```json\n(.*?)```", DOCS.read_text(), re.DOTALL)
    recorded = read_line(json.dumps(json.loads(example)).encode(), "docs")
    assert recorded.usage.input == 812
    assert recorded.cost_micro == 2990
    assert recorded.quality == {"fast": 0.8, "smart": 1.0}


def test_a_period_leaves_out_what_has_a_time_outside_of_it(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps({"model": "m", "time": at}) + "\n" for at in (1, 2, 3)) + '{"model": "m"}\n')
    traffic = open_traffic(str(path), str, 2, 3)
    assert [recorded.started_s for recorded in traffic.requests] == [2.0, None]


def test_a_damaged_archive_is_told_with_its_name(tmp_path):
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(b"no archive")
    with pytest.raises(BadRequest, match=r"t\.jsonl\.gz"):
        list(open_traffic(str(path), str, None, None).requests)
