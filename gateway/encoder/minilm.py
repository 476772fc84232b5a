"""The shipped encoder: all-MiniLM-L6-v2 in int8 on ONNX Runtime, verified against its manifest before it is loaded.

Knows the artefact's files and the graph's inputs; the graph ends in mean pooling and unit norm, and quantises each
token by itself, so a text's vector is the same alone and in any batch (docs/encoder.md).
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gateway.encoder.bulk import encode_batch
from gateway.encoder.port import EncoderError, Reading

if TYPE_CHECKING:
    from gateway.encoder.port import Vectors

ARTEFACT = Path(__file__).parent / "artefact"
MODEL, TOKENIZER, MANIFEST = "model.onnx", "tokenizer.json", "manifest.json"
CHARACTERS_PER_TOKEN = 24
"""More than the longest token of the vocabulary (18) and a space: a longer text is refused before it is tokenised."""


class File(msgspec.Struct, frozen=True):
    """One file of the artefact as it was built."""

    sha256: str
    bytes: int


class Manifest(msgspec.Struct, frozen=True):
    """What the loader reads of `manifest.json`; where the weights come from stands beside it for people."""

    name: str
    files: dict[str, File]
    dimension: int
    window: int


class MiniLm:
    """Loads in about 0.1 s. `encode_batch`, `read` and `run` as `Model` says."""

    def __init__(self, folder: Path = ARTEFACT, *, threads: int = 1) -> None:
        """Verifies and loads the artefact in `folder`. Raises `EncoderError` for a missing, cut or changed file."""
        import onnxruntime  # type: ignore[import-untyped,unused-ignore] # noqa: PLC0415 - heavy
        from tokenizers import Tokenizer  # noqa: PLC0415 - heavy

        manifest = _manifest(folder)
        for name, file in manifest.files.items():
            _verify(folder / name, file)
        self.version = _version(manifest)
        self.dimension = manifest.dimension
        self.window = manifest.window
        self._most_characters = manifest.window * CHARACTERS_PER_TOKEN
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._unknown: int = self._tokenizer.token_to_id("[UNK]") or 0
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_mem_pattern = False  # plans memory per shape, and shapes are many
        # By path: from bytes it keeps a copy, 23 MB more.
        self._session = onnxruntime.InferenceSession(str(folder / MODEL), options, providers=["CPUExecutionProvider"])

    def read(self, text: str) -> Reading | None:
        """The text as tokens; `None` when it does not fit the window whole. Raises `EncoderError`: not Unicode."""
        if len(text) > self._most_characters:
            return None
        try:
            ids = self._tokenizer.encode(text).ids
        except (TypeError, UnicodeError) as exc:
            raise EncoderError("a text with half a surrogate pair has no tokens") from exc
        return Reading(text, ids, ids.count(self._unknown)) if len(ids) <= self.window else None

    def run(self, readings: Sequence[Reading]) -> "Vectors":
        """One pass: `float32[n, d]`, unit norm. Raises `EncoderError`."""
        import numpy as np  # noqa: PLC0415 - heavy

        lengths = np.array([len(reading.ids) for reading in readings], np.int32)
        ids = np.zeros((len(readings), int(lengths.max())), np.int64)
        for row, reading in zip(ids, readings, strict=True):
            row[: len(reading.ids)] = reading.ids
        try:
            vectors: Vectors = self._session.run(None, {"input_ids": ids, "lengths": lengths})[0]
        except Exception as exc:  # ONNX Runtime's errors share no base class
            raise EncoderError(f"the encoder failed on {len(readings)} texts: {exc}") from exc
        return vectors

    def encode_batch(self, texts: Sequence[str]) -> "Vectors":
        """Any number of texts: `float32[n, d]`, unit norm. Raises `EncoderError` for a text beyond the window."""
        return encode_batch(self, texts)


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as exc:
        raise EncoderError(f"{path}: {exc}; fix: reinstall, or python -m gateway.encoder.build --out DIR") from exc
    if missing := {MODEL, TOKENIZER} - set(manifest.files):
        raise EncoderError(f"{path} does not list {', '.join(sorted(missing))}; fix: reinstall")
    return manifest


def _verify(path: Path, file: File) -> None:
    """Raises `EncoderError` unless the file is that of the manifest."""
    try:
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            size = content.tell()
    except OSError as exc:
        raise EncoderError(f"{path} cannot be read: {exc}; fix: reinstall") from exc
    if digest != file.sha256:
        raise EncoderError(
            f"{path} is not the file of its manifest: {size} bytes, sha256 {digest}, "
            f"expected {file.bytes} bytes, {file.sha256}; fix: reinstall"
        )


def _version(manifest: Manifest) -> str:
    """`NAME-` and 16 hex digits over the verified files; pooling and norm are inside the graph."""
    lines = "".join(f"{name} {file.sha256}\n" for name, file in sorted(manifest.files.items()))
    return f"{manifest.name}-{hashlib.sha256(f'{lines}{manifest.window}'.encode()).hexdigest()[:16]}"
