"""`farthing eval routing`, as it is called and as it prints."""

import csv
import json
import random

import pytest

from gateway.core.errors import BadRequest
from gateway.routing import evaluate
from tests.support.commands import run as called

KEYS = ["n", "apgr", "apgr_ci95", "cpt50", "cpt80", "random_apgr", "oracle_apgr", "p50_ms", "p99_ms"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Long questions are those that only the strong model answers."""
    path = tmp_path_factory.mktemp("eval") / "data.csv"
    dice = random.Random(1)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["q", "weak", "strong", "subject", "contam"])
        for number in range(300):
            words = dice.randint(2, 25)
            text = " ".join(dice.choice(["pear", "apple", "seven", "house"]) for _ in range(words))
            rows.writerow([text, dice.gauss(13, 3) > words, dice.random() < 0.9, number % 7, number >= 290])
    return path


def run(capsys, data, *options):
    assert called(evaluate.register, "routing", "--data", str(data), "--prompt", "q", "--json", *options) == 0
    lines = capsys.readouterr().out.splitlines()
    return "\n".join(lines[:-1]), json.loads(lines[-1])


def test_the_last_line_is_one_object_of_fixed_keys(capsys, data):
    text, found = run(capsys, data, "--tier", "light")
    assert list(found) == KEYS
    assert found["n"] == 290
    assert "shipped head, nothing fitted" in text
    assert "10 contaminated" in text
    low, high = found["apgr_ci95"]
    assert low < found["apgr"] < high
    assert 0 < found["p50_ms"] <= found["p99_ms"]


@pytest.mark.parametrize(
    "options",
    [
        ["--tier", "light"],
        ["--tier", "light", "--folds", "3"],
        ["--folds", "3"],
        ["--folds", "2", "--group", "subject", "--tier", "light"],
        ["--labels", "150", "--tier", "light"],
        ["--tier", "embed"],
    ],
)
def test_a_score_that_knows_lengths_is_better_than_chance(capsys, data, options):
    _, found = run(capsys, data, "--vectors", str(data.with_suffix(".npz")), *options)
    assert found["apgr_ci95"][0] > found["random_apgr"]
    assert found["apgr"] < found["oracle_apgr"]


def test_another_file_may_be_fitted_on(capsys, data):
    text, found = run(capsys, data, "--train", str(data), "--tier", "light")
    assert "fitted on data.csv" in text
    assert found["apgr"] > 0.55


def test_rows_that_were_fitted_on_are_not_scored(capsys, data):
    text, found = run(capsys, data, "--labels", "100", "--tier", "light")
    assert found["n"] == 190
    assert "fitted on 100 random rows" in text


def test_the_same_seed_gives_the_same_figures(capsys, data):
    first, second = (run(capsys, data, "--tier", "light", "--folds", "2")[1] for _ in range(2))
    assert {k: v for k, v in first.items() if not k.endswith("_ms")} == {
        k: v for k, v in second.items() if not k.endswith("_ms")
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--group", "subject"], "--folds 5 --group"),
        (["--labels", "290"], "290 labels leave none"),
        (["--folds", "9", "--group", "subject", "--tier", "light"], "7 groups"),
        (["--weak", "nope"], "no column 'nope'"),
        (["--weak", "strong", "--strong", "weak"], "not better"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(data, options, words):
    with pytest.raises(BadRequest, match=words):
        called(evaluate.register, "routing", "--data", str(data), "--prompt", "q", *options)


@pytest.mark.parametrize("options", [["--folds", "1"], ["--folds", "x"], ["--folds", "2", "--train", "f"]])
def test_options_that_make_no_sense_end_with_usage(data, options, capsys):
    with pytest.raises(SystemExit):
        called(evaluate.register, "routing", "--data", str(data), *options)
    assert "usage" in capsys.readouterr().err
