"""The shipped verifier: its artefact is checked, its verdicts are stable, and it keeps what it must."""

import json
import shutil
from pathlib import Path

import pytest

from gateway.cache.evaluate import read_pairs
from gateway.cache.verify import guards, verifier
from gateway.cache.verify.verifier import (
    ARTEFACT,
    DEFAULT_THRESHOLD,
    FLOOR,
    Fusion,
    Pair,
    VerifierError,
    load_verifier,
)

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def shipped():
    return load_verifier()


def test_the_same_text_but_for_case_and_closing_marks_scores_one(shipped):
    assert shipped.score([Pair("How do I pay?", "how do i  pay", 0.99)])[0].score == 1.0


def test_a_paraphrase_is_served_and_its_opposite_is_not(shipped):
    asked = "How can I reset my password?"
    same, opposite = shipped.score(
        [Pair("How do I reset my password?", asked, 0.97), Pair("How do I delete my password?", asked, 0.9)]
    )
    assert same.score >= DEFAULT_THRESHOLD > opposite.score


def test_a_forbidden_pair_scores_zero_and_names_the_guard(shipped):
    (verdict,) = shipped.score([Pair("What is 5% of 20?", "What is 5% of 30?", 0.99)])
    assert (verdict.score, verdict.veto) == (0.0, "number")


def test_pairs_too_far_apart_and_too_long_score_zero(shipped):
    far, long, longer = shipped.score(
        [
            Pair("How do I pay?", "How do I swim?", FLOOR - 0.01),
            Pair("why " * 100, "how " * 100, 0.9),
            Pair("why " * 1000, "how " * 1000, 0.9),
        ]
    )
    assert [v.veto for v in (far, long, longer)] == ["distance", "length", "length"]
    assert {v.score for v in (far, long, longer)} == {0.0}


def test_a_verdict_does_not_depend_on_the_other_pairs(shipped):
    pairs = [
        Pair("How do I open an account?", "What do I need to open an account?", 0.9),
        Pair("Why was my card declined?", "Why did my card get declined?", 0.95),
        Pair("What is the fee for a transfer that goes to another country in the evening?", "What is the fee?", 0.7),
    ]
    together = shipped.score(pairs)
    alone = [shipped.score([pair])[0] for pair in pairs]
    assert [v.score for v in together] == pytest.approx([v.score for v in alone], abs=1e-4)


def test_no_pairs_are_no_verdicts(shipped):
    assert shipped.score([]) == []


def test_a_higher_cosine_never_lowers_a_score(shipped):
    scores = [shipped.score([Pair("How do I pay?", "How can I pay?", c / 20)])[0].score for c in range(12, 21)]
    assert scores == sorted(scores)


@pytest.mark.parametrize("name", ["pairs.onnx", "fusion.json", "tokenizer.json"])
def test_a_changed_file_is_refused(tmp_path, name):
    folder = tmp_path / "artefact"
    shutil.copytree(ARTEFACT, folder)
    with (folder / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(VerifierError, match=name):
        load_verifier(folder)


@pytest.mark.parametrize("name", ["pairs.onnx", "manifest.json"])
def test_a_missing_file_is_refused(tmp_path, name):
    folder = tmp_path / "artefact"
    shutil.copytree(ARTEFACT, folder)
    (folder / name).unlink()
    with pytest.raises(VerifierError, match=name):
        load_verifier(folder)


def test_a_manifest_that_does_not_list_the_model_is_refused(tmp_path):
    folder = tmp_path / "artefact"
    shutil.copytree(ARTEFACT, folder)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    del manifest["files"]["pairs.onnx"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(VerifierError, match=r"pairs\.onnx"):
        load_verifier(folder)


def test_the_version_changes_with_the_fusion(tmp_path, shipped):
    folder = tmp_path / "artefact"
    shutil.copytree(ARTEFACT, folder)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["fusion.json"]["sha256"] = _append(folder / "fusion.json", b"\n")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert load_verifier(folder).version != shipped.version


def _append(path, data):
    import hashlib

    path.write_bytes(path.read_bytes() + data)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_artefact_is_small_and_says_where_it_comes_from():
    manifest = json.loads((ARTEFACT / "manifest.json").read_bytes())
    assert sum(file["bytes"] for file in manifest["files"].values()) <= 25_000_000
    assert {"licence", "base", "data", "seed", "command", "held_out_figures"} <= manifest.keys()
    assert manifest["data"]["banking77"]["licence"] == "CC-BY-4.0"


FUSION = Fusion(logit=1.0, traits=dict.fromkeys(guards.TRAITS, -1.0), constant=0.0)
NONE = (0.0,) * len(guards.TRAITS)


def test_the_evidence_decides_on_which_side_of_a_half_a_score_lies():
    assert FUSION.score(0.1, 0.61, NONE) >= DEFAULT_THRESHOLD
    assert FUSION.score(-0.1, 0.99, NONE) < DEFAULT_THRESHOLD
    assert FUSION.score(0.1, 0.99, (1.0, *NONE[1:])) < DEFAULT_THRESHOLD


def test_scores_stay_between_zero_and_one_for_any_evidence():
    scores = [FUSION.score(logit, cosine, NONE) for logit in (-1e9, -1, 0, 1, 1e9) for cosine in (-1.0, 0.0, 1.0)]
    assert all(0 <= score <= 1 for score in scores)


def test_the_blind_expert_traps_are_answered_without_one_wrong_answer(shipped):
    served = _served(shipped, DATA / "expert_traps.jsonl")
    assert sum(hit and not pair.duplicate for pair, hit in served) == 0
    assert sum(hit and pair.duplicate for pair, hit in served) >= 0.5 * sum(pair.duplicate for pair, _ in served)


def _served(shipped, path):
    pairs = read_pairs(path)
    verdicts = shipped.score([Pair(pair.a, pair.b, 0.95) for pair in pairs])
    return [(p, v.score >= verifier.DEFAULT_THRESHOLD) for p, v in zip(pairs, verdicts, strict=True)]
