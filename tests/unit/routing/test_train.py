"""The one command that fits the shipped heads."""

import csv
import json
import random

import pytest

from gateway.routing import train
from gateway.routing.embed import open_embed
from gateway.routing.features import text_features
from gateway.routing.light import HEADS, open_light

TASKS = ("gsm8k", "mmlu", "arc_challenge", "mbpp", "agentverse-mgsm", "trivia_qa")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "scores.csv"
    dice = random.Random(0)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["small", "large", "prompt", "task", "split"])
        for task in TASKS:
            for number in range(30):
                words = dice.randint(3, 30)
                prompt = " ".join(dice.choice(["pear", "apple", "seven", "house"]) for _ in range(words))
                small, large = dice.random() * 30 > words, dice.random() * 80 > words
                rows.writerow([int(small), int(large), f"{prompt} {number}?", task, "test" if number == 0 else "train"])
    return path


def trained(data, out):
    assert train.main(["--data", str(data), "--out", str(out), "--vectors", str(data.with_suffix(".npz"))]) == 0


@pytest.fixture(scope="module")
def first(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("heads")
    trained(data, out)
    return out


def test_a_table_gives_heads_that_serve_and_a_manifest_of_what_they_are_from(first):
    manifest = json.loads((first / "manifest.json").read_text())
    light, embed = open_light(first / "light.json"), open_embed(first / "embed.json")
    assert light.score(text_features("pear " * 30 + "?")) > light.score(text_features("pear seven?"))
    assert embed.encoder == manifest["encoder"]
    assert manifest["data"]["licence"] == "MIT"
    assert manifest["data"]["models"] == ["large", "small"]
    assert manifest["tasks"] == {task: 29 for task in sorted(TASKS) if task != "agentverse-mgsm"}


def test_the_same_seed_gives_the_same_bytes(data, first, tmp_path):
    trained(data, tmp_path)
    for name in ("light.json", "embed.json", "manifest.json"):
        assert (tmp_path / name).read_bytes() == (first / name).read_bytes()


def test_a_file_of_other_columns_is_refused(tmp_path, capsys):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    assert train.main(["--data", str(tmp_path / "x.csv"), "--out", str(tmp_path)]) == 1
    assert "fix:" in capsys.readouterr().err


def test_the_shipped_manifest_names_the_shipped_heads():
    manifest = json.loads((HEADS / "manifest.json").read_text())
    assert manifest["sha256"] == {name: train.sha256_of(HEADS / name) for name in ("light.json", "embed.json")}
    assert "agentverse-mgsm" not in manifest["tasks"]
