"""The shipped artefact: it is what its manifest says, agrees with the original, and nothing else is loaded."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from gateway.encoder import EncoderError, open_model
from gateway.encoder.minilm import ARTEFACT, MiniLm
from tests.support.encoders import original

FIXTURE = Path(__file__).parents[2] / "fixtures" / "encoder" / "fp32_vectors.npz"


@pytest.fixture
def copied(tmp_path):
    return Path(shutil.copytree(ARTEFACT, tmp_path / "artefact"))


@pytest.fixture(scope="module")
def manifest():
    return json.loads((ARTEFACT / "manifest.json").read_bytes())


def test_it_agrees_with_the_fp32_original():
    with np.load(FIXTURE) as fixture:
        texts, expected = fixture["texts"].tolist(), fixture["vectors"].astype(np.float32)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    cosines = (open_model().encode_batch(texts) * expected).sum(1)
    assert len(cosines) == 200
    assert cosines.mean() >= 0.999
    assert cosines.min() >= 0.998


def test_it_agrees_with_the_original_run_here(fp32):
    with np.load(FIXTURE) as fixture:
        texts, expected = fixture["texts"].tolist(), fixture["vectors"].astype(np.float32)
    assert (fp32.encode_batch(texts) * expected).sum(1).min() > 0.9999


def test_the_manifest_records_agreement_source_licence_and_command(manifest):
    assert manifest["agreement"]["cosine_mean"] >= 0.99
    assert manifest["agreement"]["sentences"] == 1000
    assert manifest["licence"] == "Apache-2.0"
    assert manifest["source"]["model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert manifest["command"] == "python -m gateway.encoder.build --out DIR"
    assert "Apache License" in (ARTEFACT / "LICENSE").read_text()


def test_it_is_as_small_as_promised(manifest):
    size = sum(path.stat().st_size for path in ARTEFACT.iterdir())
    assert size < 25_000_000
    assert all((ARTEFACT / name).stat().st_size == file["bytes"] for name, file in manifest["files"].items())


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_changed_file_is_refused(copied, name):
    with (copied / name).open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        file.write(b"?")
    with pytest.raises(EncoderError, match=rf"{name} is not the file of its manifest.*fix: reinstall"):
        MiniLm(copied)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "manifest.json"])
def test_a_missing_file_is_named(copied, name):
    (copied / name).unlink()
    with pytest.raises(EncoderError, match=rf"{name}.*fix: "):
        MiniLm(copied)


@pytest.mark.parametrize("content", ["", "{}", '{"files": 3}', '{"name":"n","dimension":1,"window":1,"files":{}}'])
def test_a_manifest_that_says_too_little_is_refused(copied, content):
    (copied / "manifest.json").write_text(content)
    with pytest.raises(EncoderError, match=r"manifest\.json"):
        MiniLm(copied)


def test_the_version_changes_with_the_weights_and_stays_otherwise(copied):
    shipped = open_model().version
    assert MiniLm(copied).version == shipped
    manifest = json.loads((copied / "manifest.json").read_bytes())
    tokenizer = copied / "tokenizer.json"
    tokenizer.write_bytes(tokenizer.read_bytes() + b"\n")
    manifest["files"]["tokenizer.json"]["sha256"] = hashlib.sha256(tokenizer.read_bytes()).hexdigest()
    (copied / "manifest.json").write_text(json.dumps(manifest))
    assert MiniLm(copied).version != shipped


def test_another_model_without_the_extra_names_the_fix():
    try:
        import sentence_transformers  # noqa: F401
    except ImportError:
        with pytest.raises(EncoderError, match=r"pip install 'farthing\[models\]'"):
            open_model("some/model")
    else:
        with pytest.raises(EncoderError, match=r"cannot be loaded.*fix: the path"):
            open_model("/nowhere/at/all")


def test_a_local_model_s_version_is_that_of_its_files(tmp_path):
    folder = Path(shutil.copytree(original(), tmp_path / "mine"))
    before = open_model(str(folder)).version
    (folder / "README.md").write_text("other words")
    assert open_model(str(folder)).version == before
    (folder / "1_Pooling" / "config.json").write_text(
        (folder / "1_Pooling" / "config.json").read_text().replace("384", "384 ")
    )
    assert open_model(str(folder)).version != before
