"""Scores pairs of a stored and an asked question: guards first, then the pair encoder, one number in [0, 1].

Knows nothing of scopes, answers or policies. A pair that cannot be judged (too long, a guard's veto) scores 0; a
missing or changed artefact and a failing model raise `VerifierError`, and the caller treats that as a miss: it fails
closed on the answer and open on the request.
"""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from gateway.cache.verify import guards
from gateway.core.errors import GatewayError

ARTEFACT = Path(__file__).parent / "artefact"
MODEL, TOKENIZER, FUSION, MANIFEST = "pairs.onnx", "tokenizer.json", "fusion.json", "manifest.json"
DEFAULT_THRESHOLD = 0.5
"""Serve at this score or more. The fusion is shifted so that this is the point chosen on held-out pairs."""
FLOOR = 0.6
"""Pairs of a lower cosine are not worth verifying: they score 0."""
CENTRE = 0.9
"""The cosine that moves a score neither up nor down within its side."""
MOST_TOKENS = 128
MOST_CHARACTERS = 1_500
"""Of either text: a longer pair is refused before it is tokenised."""


class VerifierError(GatewayError):
    """The pair verifier cannot be loaded or failed on a batch; the caller records a miss."""

    status = 503
    code = "verifier_unavailable"


class Pair(msgspec.Struct, frozen=True):
    """A stored question, the one asked now, and the cosine of their vectors."""

    stored: str
    asked: str
    cosine: float


class Verdict(msgspec.Struct, frozen=True):
    """How sure it is that the stored answer is right, in [0, 1], and the guard that forbids it.

    `veto` is a name of `guards.GUARDS`, `length` for a pair beyond the window, `distance` for a cosine under `FLOOR`,
    else `None`. With a veto the score is 0.
    """

    score: float
    veto: str | None = None


class Fusion(msgspec.Struct, frozen=True):
    """How logit, traits and cosine become one score.

    `logit`, `traits` and `constant` make the evidence, a weighted sum that is 0 at the shipped point. The evidence
    decides on which side of 0.5 a score lies. Within each side it counts up to `cap`, and the cosine orders the rest,
    with weight `cosine`: measured, nothing ranks natural paraphrases better once the evidence has spoken.
    """

    logit: float
    traits: dict[str, float]
    constant: float
    cosine: float = 30.0
    cap: float = 3.0

    def evidence(self, logit: float, traits: Sequence[float]) -> float:
        """The weighted sum; `traits` as `guards.traits` gives them."""
        return (
            self.constant
            + self.logit * logit
            + sum(self.traits[name] * value for name, value in zip(guards.TRAITS, traits, strict=True))
        )

    def score(self, logit: float, cosine: float, traits: Sequence[float]) -> float:
        """In [0, 1]; at least 0.5 where the evidence is at least 0."""
        evidence = self.evidence(logit, traits)
        order = _sigmoid(min(evidence, self.cap) + self.cosine * (cosine - CENTRE))
        return 0.5 + 0.5 * order if evidence >= 0 else 0.5 * order * 0.999


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, x))))


class _File(msgspec.Struct, frozen=True):
    sha256: str
    bytes: int


class _Manifest(msgspec.Struct, frozen=True):
    name: str
    files: dict[str, _File]


class Verifier:
    """Loaded in about 0.2 s; `score` is synchronous and may be called by several threads."""

    def __init__(self, folder: Path = ARTEFACT, *, threads: int = 1) -> None:
        """Verifies and loads the artefact in `folder`. Raises `VerifierError` for a missing, cut or changed file."""
        import onnxruntime  # type: ignore[import-untyped,unused-ignore] # noqa: PLC0415 - heavy
        from tokenizers import Tokenizer  # noqa: PLC0415 - heavy

        manifest = _manifest(folder)
        for name, file in manifest.files.items():
            _verify(folder / name, file)
        lines = "".join(f"{name} {file.sha256}\n" for name, file in sorted(manifest.files.items()))
        self.version = f"{manifest.name}-{hashlib.sha256((lines + _rules()).encode()).hexdigest()[:16]}"
        self._fusion = msgspec.json.decode((folder / FUSION).read_bytes(), type=Fusion)
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_mem_pattern = False  # plans memory per shape, and shapes are many
        self._session = onnxruntime.InferenceSession(str(folder / MODEL), options, providers=["CPUExecutionProvider"])

    def score(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """A verdict for each pair, in their order; a verdict does not depend on the other pairs."""
        verdicts: list[Verdict | None] = [_without_model(pair) for pair in pairs]
        open_ = [i for i, verdict in enumerate(verdicts) if verdict is None]
        encoded = [self._tokenizer.encode(pairs[i].stored, pairs[i].asked) for i in open_]
        fitting = [(i, e) for i, e in zip(open_, encoded, strict=True) if len(e.ids) <= MOST_TOKENS]
        if fitting:
            for (i, _), logit in zip(fitting, self._run([e for _, e in fitting]), strict=True):
                pair = pairs[i]
                traits = guards.traits(pair.stored, pair.asked)
                verdicts[i] = Verdict(self._fusion.score(logit, pair.cosine, traits))
        return [verdict or Verdict(0.0, "length") for verdict in verdicts]

    def logits(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """The pair encoder's logits alone, for measuring and for fitting the fusion; all pairs must fit the window."""
        return self._run([self._tokenizer.encode(a, b) for a, b in pairs])

    def _run(self, encodings: Sequence[Any]) -> list[float]:
        import numpy as np  # noqa: PLC0415 - heavy

        lengths = np.array([len(e.ids) for e in encodings], np.int32)
        ids = np.zeros((len(encodings), int(lengths.max())), np.int64)
        sides = np.zeros_like(ids)
        for i, e in enumerate(encodings):
            ids[i, : len(e.ids)], sides[i, : len(e.ids)] = e.ids, e.type_ids
        try:
            logits = self._session.run(None, {"ids": ids, "sides": sides, "lengths": lengths})[0]
        except Exception as exc:  # ONNX Runtime's errors share no base class
            raise VerifierError(f"the pair verifier failed on {len(encodings)} pairs: {exc}") from exc
        return [float(x) for x in logits]


def load_verifier(folder: Path = ARTEFACT, *, threads: int = 1) -> Verifier:
    """The shipped verifier, its files checked against their sha256. Raises `VerifierError`."""
    return Verifier(folder, threads=threads)


def _without_model(pair: Pair) -> Verdict | None:
    """What can be said before the model runs: the same text, a text too long, too far apart, a guard."""
    if _plain(pair.stored) == _plain(pair.asked):
        return Verdict(1.0)
    if max(len(pair.stored), len(pair.asked)) > MOST_CHARACTERS:
        return Verdict(0.0, "length")
    if pair.cosine < FLOOR:
        return Verdict(0.0, "distance")
    name = guards.veto(pair.stored, pair.asked)
    return Verdict(0.0, name) if name else None


def _plain(text: str) -> str:
    """The text without case, runs of spaces, and closing marks."""
    return " ".join(text.casefold().split()).rstrip(" ?.!")


def _rules() -> str:
    """A hash of the guards and their word lists: a changed rule is a changed verifier."""
    here = Path(__file__).parent
    files = [here / "guards.py", here / "reading.py", Path(__file__), *sorted((here / "lexicon").glob("*.txt"))]
    return "".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)


def _manifest(folder: Path) -> _Manifest:
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=_Manifest)
    except (OSError, msgspec.DecodeError) as exc:
        raise VerifierError(f"{path}: {exc}; fix: reinstall, or python -m gateway.cache.training --out DIR") from exc
    if missing := {MODEL, TOKENIZER, FUSION} - set(manifest.files):
        raise VerifierError(f"{path} does not list {', '.join(sorted(missing))}; fix: reinstall")
    return manifest


def _verify(path: Path, file: _File) -> None:
    try:
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as exc:
        raise VerifierError(f"{path} cannot be read: {exc}; fix: reinstall") from exc
    if digest != file.sha256:
        raise VerifierError(
            f"{path} is not the file of its manifest (sha256 {digest}, not {file.sha256}); fix: reinstall"
        )
