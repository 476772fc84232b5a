"""Which threshold a sample certifies, and what is said of one that certifies none."""

import argparse
import contextlib
import json
import math

import numpy as np
import pytest

from gateway.cache import calibrate_commands as commands
from gateway.cache.calibrate import GRID, Rows, calibrate, rows_of_labels, rows_of_pairs
from gateway.cache.certificates import Standing
from gateway.cache.evaluate import Labelled, Outcome
from gateway.cache.labels import UNSURE, Label, Labels, LabelStore
from gateway.commands import conclude, put
from gateway.core.errors import BadRequest
from gateway.database import open_database
from gateway.guarantee.certificate import dump, load, voids
from gateway.policy.caching import CacheRule, SemanticRule
from tests.support.keys import NOW

RULE = CacheRule("r", "v", semantic=SemanticRule(3600.0))
VERSIONS = {"encoder": "e", "verifier": "v"}
DATE = "2026-11-01T00:00:00+00:00"


def label(score, loss=0, weight=1.0, at_s=NOW, request="q", **more):
    return Label(at_s, "r", "e+v", request, None if score is None else "e", score, loss, weight, **more)


def found(rows, max_error=0.01, confidence=0.95, rule=RULE):
    return calibrate(rows, rule, max_error, confidence, VERSIONS, DATE)


def test_the_threshold_is_the_lowest_score_down_to_which_the_error_is_small_enough():
    scores = [0.9] * 300 + [0.4] * 100 + [-math.inf] * 1600
    made = found(Rows(scores, [0.0] * 300 + [1.0] * 100 + [0.0] * 1600)).certified
    assert made.threshold == 0.9, "nothing is known of lower scores"
    assert (made.n, made.realised, made.share_accepted, made.upper_bound < 0.01) == (2000, 0.0, 0.15, True)
    assert (made.kind, made.route, made.versions, made.alpha) == ("cache", "r", VERSIONS, 0.01)
    assert made.delta == pytest.approx(0.05)


def test_the_error_is_over_all_requests_and_the_share_among_hits_is_told_too():
    rows = Rows([0.9] * 10 + [-math.inf] * 1990, [1.0] * 5 + [0.0] * 1995)
    made = found(rows).certified
    assert (made.realised, made.realised_accepted) == (0.0025, 0.5)


def test_too_few_rows_certify_nothing_and_it_says_how_many_would():
    said = found(Rows([0.9] * 298, [0.0] * 298))
    assert (said.certified, said.n, said.n_needed) == (None, 298, 299)
    assert found(Rows([0.9] * 299, [0.0] * 299)).certified is not None
    assert found(Rows([0.9] * 299, [0.0] * 299), confidence=0.99).certified is None


def test_a_sample_that_is_mostly_wrong_says_that_no_number_of_rows_would_do():
    said = found(Rows([0.9] * 500, [1.0] * 500))
    assert (said.certified, said.n_needed) == (None, None)
    assert "over 0.01" in said.reason


def test_of_random_worlds_hardly_any_gets_a_threshold_that_breaks_its_promise():
    """A tenth of the requests has a neighbour, wrong with probability 1 - score: the risk at t is (1 - t)**2 / 20."""
    draw, broken = np.random.default_rng(7), 0
    for _ in range(200):
        scores = np.where(draw.random(1500) < 0.1, draw.random(1500), -np.inf)
        losses = (np.isfinite(scores) & (draw.random(1500) > scores)).astype(float)
        made = found(Rows(scores.tolist(), losses.tolist())).certified
        broken += made is not None and (1 - made.threshold) ** 2 / 20 > 0.01
    assert broken <= 18


def test_the_grid_is_fixed_and_never_takes_what_cannot_be_judged():
    assert (GRID[0], GRID[-1], len(GRID)) == (1.0, 0.001, 1000)
    made = found(Rows([0.0] * 1000 + [0.5] * 1000, [0.0] * 2000)).certified
    assert made.share_accepted == 0.5


def test_pairs_count_as_requests_and_what_the_route_refuses_is_not_served():
    pairs = [
        Labelled("how are cards frozen", "how is a card frozen", 1),
        Labelled("how are cards frozen", "how are carts frozen", 0),
        Labelled("where is my order", "please, where is my order", 0),
        Labelled("what is the weather today", "what is the weather", 0),
    ]
    outcomes = [Outcome(0.9, None), Outcome(0.8, None), Outcome(0.99, None), Outcome(0.0, "volatile")]
    rows = rows_of_pairs(pairs, outcomes, RULE)
    assert (rows.scores, rows.losses) == ([0.9, 0.8, -math.inf, -math.inf], [0.0, 1.0, 0.0, 0.0])
    per_user = CacheRule("r", "v", semantic=SemanticRule(3600.0), share="user")
    assert rows_of_pairs(pairs, outcomes, per_user).scores[2] == 0.99


def test_labels_of_live_traffic_count_requests_without_a_neighbour_and_leave_out_the_unsure():
    rows = rows_of_labels([label(0.9), label(0.8, 1), label(None, weight=3.0), label(0.7, UNSURE)])
    assert sorted(rows.scores) == [-math.inf] * 3 + [0.8, 0.9]
    assert (rows.wrong, rows.compared, rows.unsure, rows.weights) == (1, 2, [(0.7, 1.0)], None)
    assert rows_of_labels([label(0.9, weight=50.0), label(0.8)]).weights == [50.0, 1.0]


def test_what_the_unsure_could_hide_is_told():
    labels = [label(0.9) for _ in range(500)] + [label(0.95, UNSURE) for _ in range(100)]
    said = found(rows_of_labels(labels))
    assert said.certified is not None
    assert said.realised_if_unsure_wrong == pytest.approx(100 / 600)
    assert any("100 of 600" in warning for warning in said.warnings)


def test_few_labels_a_short_time_and_a_weaker_promise_are_warned_of():
    labels = [label(0.9, at_s=NOW + number) for number in range(400)]
    said = found(rows_of_labels(labels), max_error=0.02)
    assert [warning.split(":")[0] for warning in said.warnings] == [
        "few requests",
        "all labels are of 0.1 hours",
        "the policy asks for max_error 1.00% at 95%",
    ]
    long = [label(0.9, at_s=NOW + 100 * number) for number in range(2000)]
    assert found(rows_of_labels(long)).warnings == []


async def test_labels_come_back_from_the_database_as_they_were_noted(tmp_path):
    with contextlib.closing(open_database(f"sqlite:///{tmp_path}/labels.db")) as database:
        store = LabelStore(database)
        store.migrate()
        labels = Labels(store, lambda: NOW)
        for each in (label(0.9, request="a"), label(0.8, 1, request="b"), label(0.7, UNSURE, 50.0, request="c"),
                     label(0.9, sampled=True)):  # fmt: skip
            labels.note(each)
        labels.alone("r", "e+v")
        await labels.flush()
        read = store.of("r", "e+v", NOW - 1, sampled=False)
        assert [(each.score, each.loss, each.weight) for each in read] == [
            (None, 0, 1.0), (0.9, 0, 1.0), (0.8, 1, 1.0), (0.7, UNSURE, 50.0),
        ]  # fmt: skip
        assert (labels.right["r"], labels.wrong["r"], labels.unsure["r"]) == (1, 1, 1)
        assert store.of("r", "other", NOW - 1, sampled=False) == []
        assert store.routes() == [("r", "e+v", 53.0)]


def test_a_certificate_is_written_whole_and_read_back(tmp_path):
    made = found(Rows([0.9] * 500, [0.0] * 500)).certified
    path = tmp_path / "certificates" / "cache-r.json"
    put(path, dump(made))
    assert load(path.read_bytes()) == made
    assert voids(made.versions, VERSIONS) is None
    assert [each.name for each in path.parent.iterdir()] == ["cache-r.json"]
    with pytest.raises(BadRequest, match="fix: --out"):
        put(tmp_path / "certificates" / "cache-r.json" / "below", b"")


def test_the_report_says_what_was_certified_and_what_was_not(tmp_path, capsys):
    good, bad = found(Rows([0.9] * 500, [0.0] * 500)), found(Rows([0.9] * 100, [0.0] * 100))
    path = tmp_path / "cache-r.json"

    def said(calibration, *options, has=Standing(serves=False, why="")):
        arguments = argparse.Namespace(dry_run="--dry-run" in options, json="--json" in options)
        status = conclude(arguments, commands.finding(calibration, path, VERSIONS, has))
        return status, capsys.readouterr().out

    status, text = said(bad)
    assert (status, path.exists()) == (1, False)
    assert "about 299 requests like these" in text
    assert "keeps the certificate" not in text
    assert "warning: few requests" in text
    assert f"not written      {path}" in said(good, "--dry-run")[1]
    assert not path.exists()
    status, text = said(good, "--json")
    assert "scores from 0.900, counted on n = 500" in text
    assert f"written          {path}" in text
    assert (status, json.loads(text.splitlines()[-1])["written"]) == (0, True)
    has = Standing(serves=True, why="certified", file="cache-r.json")
    assert "keeps the certificate that it has, cache-r.json" in said(bad, has=has)[1]
