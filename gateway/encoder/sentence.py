"""Any sentence-transformers model as the encoder, by local path or hub id: the extra `models`.

Knows the library, not what the vectors are for. Vectors are brought to unit norm, whatever the model ends in. The
model's own window holds; a text beyond it is refused, where the library would cut it.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.encoder.bulk import encode_batch
from gateway.encoder.port import EncoderError, Reading

if TYPE_CHECKING:
    from gateway.encoder.port import Vectors

CHARACTERS_PER_TOKEN = 64
"""No tokenizer's text is that long per token on average: a longer one is refused before it is tokenised."""
_CHUNK = 1 << 20


class SentenceModel:
    """Loads and runs on the CPU. `encode_batch`, `read` and `run` as `Model` says."""

    def __init__(self, name: str, *, threads: int = 1) -> None:
        """Loads `name`, a folder or else a hub id, which may download it. Raises `EncoderError` with the fix."""
        try:
            import torch  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415 - an extra
            from sentence_transformers import (  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415
                SentenceTransformer,
            )
        except ImportError as exc:
            raise EncoderError(
                f"the encoder {name!r} needs sentence-transformers; fix: pip install 'farthing[models]', "
                "or the shipped encoder, minilm"
            ) from exc
        torch.set_num_threads(threads)
        try:
            self._model: Any = SentenceTransformer(name, device="cpu")
        except Exception as exc:  # the library's and the hub's errors share no base class
            raise EncoderError(
                f"the encoder {name!r} cannot be loaded: {exc}; fix: the path of a sentence-transformers model, "
                "or a hub id that this machine can reach"
            ) from exc
        self.window = self._window(name)
        self.dimension = len(self.run([Reading("a", [])])[0])
        self.version = _version(name, self._model)
        self._unknown = getattr(self._model.tokenizer, "unk_token_id", None)

    def _window(self, name: str) -> int:
        window = self._model.max_seq_length
        if window is None:
            raise EncoderError(f"the encoder {name!r} names no max_seq_length; fix: add it to its configuration")
        return int(window)

    def read(self, text: str) -> Reading | None:
        """The text as tokens; `None` when it does not fit the window whole. Raises `EncoderError`: not Unicode."""
        if len(text) > self.window * CHARACTERS_PER_TOKEN:
            return None
        try:
            ids: list[int] = self._model.tokenizer(text, truncation=False, verbose=False)["input_ids"]
        except (TypeError, ValueError) as exc:
            raise EncoderError(f"a text that the tokenizer refuses: {exc}") from exc
        if len(ids) > self.window:
            return None
        return Reading(text, ids, 0 if self._unknown is None else ids.count(self._unknown))

    def run(self, readings: Sequence[Reading]) -> "Vectors":
        """One pass: `float32[n, d]`, unit norm."""
        texts = [reading.text for reading in readings]
        vectors: Vectors = self._model.encode(
            texts, batch_size=len(texts), normalize_embeddings=True, show_progress_bar=False
        )
        return vectors

    def encode_batch(self, texts: Sequence[str]) -> "Vectors":
        """Any number of texts: `float32[n, d]`, unit norm. Raises `EncoderError` for a text beyond the window."""
        return encode_batch(self, texts)


def _version(name: str, model: Any) -> str:
    """`NAME-` and 16 hex digits: over the files of a local model, else over its id, its configuration and weights."""
    digest = hashlib.sha256()
    folder = Path(name)
    if folder.is_dir():
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            if path.name.startswith(".") or path.suffix == ".md":
                continue
            digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
        return f"{folder.resolve().name}-{digest.hexdigest()[:16]}"
    import torch  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415 - an extra

    digest.update(repr(model).encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    digest.update(repr(sorted(model.tokenizer.get_vocab().items())).encode())
    return f"{name}-{digest.hexdigest()[:16]}"
