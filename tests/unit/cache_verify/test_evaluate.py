"""`farthing eval cache`: what it counts, and what its last line is."""

import gzip
import json

import pytest

from gateway.cache import evaluate
from gateway.cache.evaluate import Labelled, Outcome, as_text, calibrate, read_pairs, register, report
from gateway.core.errors import BadRequest
from tests.support.commands import run

KEYS = {
    "n", "duplicates_served", "false_hits", "precision", "error_over_requests", "error_upper_bound", "by_test",
    "p50_ms", "p99_ms",
}  # fmt: skip


def pair(duplicate, test=None):
    return Labelled("a", "b", duplicate, test)


def figures(pairs, outcomes, threshold=0.5):
    return report(pairs, outcomes, threshold, [1.0, 2.0, 3.0], {}, None)


def test_shares_are_of_what_they_say():
    pairs = [pair(1, "x"), pair(1, "x"), pair(0, "y"), pair(0, "y")]
    outcomes = [Outcome(0.9, None), Outcome(0.1, None), Outcome(0.8, None), Outcome(0.2, None)]
    found = figures(pairs, outcomes)
    assert (found.duplicates_served, found.false_hits, found.precision) == (0.5, 0.5, 0.5)
    assert found.error_over_requests == 0.25
    assert found.error_upper_bound > 0.25
    assert found.by_test["x"] == {"n": 2, "duplicates_served": 0.5, "false_hits": None}


def test_a_refused_pair_is_never_served_whatever_its_score():
    found = figures([pair(1)], [Outcome(1.0, "volatile")])
    assert found.duplicates_served == 0
    assert found.rejects == {"volatile": 1}


def test_without_a_certified_threshold_nothing_is_served():
    found = figures([pair(1), pair(0)], [Outcome(1.0, None)] * 2, threshold=None)
    assert (found.duplicates_served, found.false_hits, found.precision) == (0, 0, None)
    assert "not certified" in as_text(found)


def test_a_threshold_is_certified_on_enough_clean_pairs():
    scores = [0.9] * 300 + [0.2] * 300
    pairs = [pair(1)] * 300 + [pair(0)] * 300
    found = calibrate(scores, pairs, 0.01)
    assert found["threshold"] == 0.9
    assert found["upper_bound"] <= 0.01


def test_too_few_pairs_certify_nothing_and_say_how_many_would():
    found = calibrate([0.9] * 20, [pair(1)] * 20, 0.01)
    assert found["threshold"] is None
    assert found["n_needed"] > 20


def test_zero_scores_are_never_accepted_by_a_certified_threshold():
    found = calibrate([0.0] * 500 + [0.7] * 500, [pair(0)] * 500 + [pair(1)] * 500, 0.01)
    assert found["threshold"] == 0.7


def test_pairs_are_read_from_plain_and_gzipped_lines(tmp_path):
    line = b'{"a": "x", "b": "y", "duplicate": true, "test": "t", "more": 1}\n\n'
    (tmp_path / "p.jsonl").write_bytes(line)
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(line))
    assert read_pairs(tmp_path / "p.jsonl") == read_pairs(tmp_path / "p.jsonl.gz") == [Labelled("x", "y", 1, "t")]


@pytest.mark.parametrize("content", [b"", b"not json\n", b'{"a": "x"}\n'])
def test_a_broken_file_is_an_error_that_names_it(tmp_path, content):
    path = tmp_path / "broken.jsonl"
    path.write_bytes(content)
    with pytest.raises(BadRequest, match=r"broken\.jsonl"):
        read_pairs(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(BadRequest, match="absent"):
        read_pairs(tmp_path / "absent.jsonl")


def test_the_last_line_is_one_object_with_the_agreed_keys(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "TIMED", 3)
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"a": "How do I reset my password?", "b": "How can I reset my password?", "duplicate": 1, "test": "same"},
        {"a": "When is my PIN reset?", "b": "Why is my PIN reset?", "duplicate": 0, "test": "other"},
        {"a": "What is the weather today?", "b": "What is the weather today?", "duplicate": 1, "test": "volatile"},
        {"a": "How do I pay with a \U0001f984?", "b": "How do I pay with a card?", "duplicate": 0, "test": "unknown"},
        {"a": "word " * 400, "b": "How do I pay?", "duplicate": 0, "test": "long"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(register, "cache", "--pairs", str(path), "--json") == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found.keys() >= KEYS
    assert found["n"] == 5
    assert found["by_test"]["same"]["duplicates_served"] == 1
    assert found["by_test"]["volatile"]["duplicates_served"] == 0
    assert found["rejects"] == {"volatile": 1, "unknown": 1, "long": 1, "question": 1}
    assert found["false_hits"] == 0


def test_calibration_that_certifies_nothing_serves_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "TIMED", 1)
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"a": "How do I pay?", "b": "How can I pay?", "duplicate": 1}\n')
    run(register, "cache", "--pairs", str(path), "--calibrate", str(path), "--max-error", "1%", "--json")
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["duplicates_served"] == 0
    assert found["threshold"] is None


@pytest.mark.parametrize("given", ["1.5", "0", "100%", "little"])
def test_a_max_error_that_is_no_share_is_refused(tmp_path, capsys, given):
    with pytest.raises(SystemExit):
        run(register, "cache", "--pairs", str(tmp_path), "--max-error", given)
    assert "argument --max-error: " in capsys.readouterr().err
