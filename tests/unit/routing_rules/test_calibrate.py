"""`farthing calibrate routing`: a threshold that keeps its promise, or none."""

import argparse
import csv
import random

import msgspec
import numpy as np
import pytest

from gateway.core.errors import BadRequest
from gateway.guarantee.certificate import Certificate, load
from gateway.guarantee.certify import Uncertified
from gateway.routing.calibrate import Promise, calibrate
from gateway.routing.calibrate_commands import Rules, Setup, register
from gateway.routing.metric import Rows
from gateway.routing.shares import load_share
from gateway.routing.thresholds import Thresholds
from tests.support.policies import policy

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


def run(tmp_path, data, which, *arguments):
    parser = argparse.ArgumentParser()
    setup = Setup(lambda path: Rules(tmp_path, {"r": which}), lambda: "minilm")
    register(parser.add_subparsers(), setup)
    parsed = parser.parse_args(["routing", "--route", "r", "--data", str(data), *arguments])
    return parsed.func(parsed)


def test_a_certificate_is_written_that_a_gateway_takes(tmp_path, data, capsys):
    which = rule("max_quality_loss: 10%")
    assert run(tmp_path, data, which, "--json") == 0
    said = capsys.readouterr().out
    assert "certified        up to a gain of" in said
    assert msgspec.json.decode(said.splitlines()[-1])["written"] is True
    certificate = load((tmp_path / "certificates/routing-r.json").read_bytes())
    parts = {key: value for key, value in certificate.versions.items() if key not in ("weak", "strong")}
    assert Thresholds(tmp_path, lambda tier: parts).of(which).value == certificate.threshold


def test_a_share_is_written_that_a_gateway_takes(tmp_path, data, capsys):
    which = rule("strong_share: 30%")
    assert run(tmp_path, data, which) == 0
    assert "it says nothing of quality" in capsys.readouterr().out
    calibration = load_share((tmp_path / "certificates/share-r.json").read_bytes(), "f")
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
