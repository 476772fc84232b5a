"""Reads labelled prompts from CSV, plain or gzipped, and gives each its features and its vector.

The columns' names are the caller's; a row whose `contam` column is true is dropped. Vectors are kept in a file beside
the data when asked, named by encoder and texts, because encoding is by far the longest part.
"""

import csv
import hashlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.commands import plain
from gateway.core.errors import BadRequest
from gateway.encoder import Model
from gateway.routing import view
from gateway.routing.features import text_features
from gateway.routing.metric import Floats, Rows

_TRUE, _FALSE = frozenset(["true", "yes", "t"]), frozenset(["false", "no", "f"])
_EXCERPT = 300
"""Characters tried first of a view that does not fit the encoder's window."""
_BATCH = 256
_TOLD = 1_024


class Table(NamedTuple):
    """`lines` are the rows by column, `groups` each one's group, `None` where no column was named.

    `sha256` is of the file as it is.
    """

    lines: list[dict[str, str]]
    prompts: list[str]
    rows: Rows
    groups: list[str] | None
    sha256: str
    dropped: int


def read_table(path: Path, prompt: str, weak: str, strong: str, group: str | None = None) -> Table:
    """The rows of a file. Raises `BadRequest` naming file, column or line, and the fix."""
    lines = read_lines(path)
    for name in (prompt, weak, strong, *([group] if group else [])):
        if lines and name not in lines[0]:
            raise BadRequest(f"{path}: no column {name!r}; fix: one of {', '.join(lines[0])}")
    kept = [line for line in lines if not _true(line.get("contam"))]
    if not kept:
        raise BadRequest(f"{path}: no rows; fix: a CSV with a header and one line for each prompt")
    quality = [np.array([number(path, at, line[name]) for at, line in enumerate(kept, 2)]) for name in (weak, strong)]
    return Table(
        lines=kept,
        prompts=[line[prompt] for line in kept],
        rows=Rows(*quality),
        groups=[line[group] for line in kept] if group else None,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        dropped=len(lines) - len(kept),
    )


def read_lines(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV by column. Raises `BadRequest`."""
    csv.field_size_limit(sys.maxsize)
    try:
        return [dict(line) for line in csv.DictReader(io.StringIO(plain(path).decode(), newline=""))]
    except (UnicodeDecodeError, csv.Error) as exc:
        raise BadRequest(f"{path}: {exc}; fix: a CSV in UTF-8, plain or .gz") from exc


def features_of(prompts: Sequence[str]) -> Floats:
    """`float64[n, p]`, the features of texts that are whole requests."""
    return np.array([text_features(prompt) for prompt in prompts], dtype=np.float64)


def vectors_of(model: Model, prompts: Sequence[str], kept: Path | None = None) -> Floats:
    """`float64[n, d]`, unit norm; read from `kept` where that holds these texts' vectors, else written there.

    Progress goes to standard error.
    """
    key = hashlib.sha256(
        "\0".join([model.version, view.VERSION, *prompts]).encode("utf-8", "surrogatepass")
    ).hexdigest()
    if kept is not None and (found := _kept(kept, key)) is not None:
        return found.astype(np.float64)
    vectors = np.empty((len(prompts), model.dimension), np.float32)
    for start in range(0, len(prompts), _BATCH):
        texts = [excerpt(model, prompt) for prompt in prompts[start : start + _BATCH]]
        vectors[start : start + len(texts)] = model.encode_batch(texts)
        done = start + len(texts)
        if done % _TOLD == 0 or done == len(prompts):
            sys.stderr.write(f"encoded {done} of {len(prompts)}\n")
    if kept is not None:
        with kept.open("wb") as file:
            np.savez(file, key=np.array(key), vectors=vectors)
    return vectors.astype(np.float64)


def excerpt(model: Model, text: str) -> str:
    """The text's view, or as much of its head and its tail as the encoder's window holds."""
    text = view.view(text.encode("utf-8", "replace").decode("utf-8"))
    size = _EXCERPT
    shown = text
    while model.read(shown) is None:
        shown = f"{text[: size * 2 // 3]}\n{text[-(size // 3) :]}"
        size = size * 4 // 5
    return shown


def number(path: Path, row: int, text: str | None) -> float:
    """What a cell says, `true` and `false` as 1 and 0. Raises `BadRequest` naming file, row and fix."""
    word = (text or "").strip().lower()
    if word in _TRUE or word in _FALSE:
        return float(word in _TRUE)
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise BadRequest(f"{path}: row {row}: {text!r} is no number; fix: true, false or a number")
    return value


def _kept(path: Path, key: str) -> NDArray[np.float32] | None:
    """The vectors of a file, if it holds those asked for."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["key"]) == key:
                vectors: NDArray[np.float32] = file["vectors"]
                return vectors
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as exc:
        raise BadRequest(f"{path}: {exc}; fix: another --vectors FILE, it is written anew") from exc
    return None


def _true(text: str | None) -> bool:
    return text is not None and text.strip().lower() in (*_TRUE, "1", "1.0")
