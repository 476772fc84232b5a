"""`python -m gateway.routing.train`: fits the shipped heads and writes them with the manifest that says from what.

One seeded command over LLMRouter's table of scores (MIT); the method is `recipe`'s. Only rows of the table's own
training split are read, without the task whose questions are another benchmark's test set.
"""

import argparse
import base64
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from gateway.core.errors import BadRequest, GatewayError
from gateway.encoder import Model, open_model
from gateway.routing import recipe, view
from gateway.routing.embed import EmbedFile
from gateway.routing.features import VERSION, Features
from gateway.routing.fit import Ridge
from gateway.routing.light import HEADS, LightFile
from gateway.routing.recipe import FAMILIES, Choice, Labelled
from gateway.routing.table import features_of, read_lines, vectors_of

_NOT_MODELS = frozenset(["prompt", "task", "split"])
_SOURCE = {
    "name": "LLMRouter, scores of nine models",
    "repository": "https://github.com/ulab-uiuc/LLMRouter",
    "licence": "MIT",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Writes light.json, embed.json and manifest.json."""
    parser = argparse.ArgumentParser(prog="python -m gateway.routing.train", description="Fits the shipped heads.")
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="columns prompt, task, split, models")
    parser.add_argument("--out", type=Path, default=HEADS, metavar="DIR", help="[the package's]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the rows' order [%(default)s]")
    parser.add_argument("--vectors", type=Path, metavar="FILE", help="keep the vectors there between runs")
    arguments = parser.parse_args(argv)
    try:
        _train(arguments.data, arguments.out, arguments.seed, arguments.vectors)
    except GatewayError as exc:
        sys.stderr.write(f"{exc.message}\n")
        return 1
    return 0


def _train(path: Path, out: Path, seed: int, kept: Path | None) -> None:
    model = open_model()
    data, models = _read(path, seed, model, kept)
    try:
        light_choice, light_tried = recipe.choose(data._replace(vectors=None))
        embed_choice, embed_tried = recipe.choose(data)
    except ValueError as exc:
        raise BadRequest(f"{path}: {exc}") from exc
    light = recipe.fit(data._replace(vectors=None), light_choice)
    embed = recipe.fit(data, embed_choice)
    sha256 = sha256_of(path)
    files: dict[str, LightFile | EmbedFile] = {
        "light.json": _light_file("light", light, light.bias, sha256),
        "embed.json": _embed_file(embed, sha256, model),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, file in files.items():
        (out / name).write_bytes(msgspec.json.encode(file) + b"\n")
    manifest = {
        "method": "difficulty within tasks, ridge; see docs/routing.md",
        "command": f"python -m gateway.routing.train --data {path.name} --seed {seed}",
        "data": {**_SOURCE, "file": path.name, "sha256": sha256, "rows": len(data.tasks), "models": models},
        "tasks": {str(task): int((data.tasks == task).sum()) for task in np.unique(data.tasks)},
        "label": "1 - mean score of all models, less the task's mean",
        "features": VERSION,
        "encoder": model.version,
        "view": view.VERSION,
        "chosen": {"light.json": _shown(light_choice), "embed.json": _shown(embed_choice)},
        "tried": [_shown(choice) for choice in (*light_tried, *embed_tried)],
        "sha256": {name: sha256_of(out / name) for name in files},
    }
    (out / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    sys.stdout.write(f"light: {light_choice}\nembed: {embed_choice}\n")


def sha256_of(path: Path) -> str:
    """Of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(path: Path, seed: int, model: Model, kept: Path | None) -> tuple[Labelled, list[str]]:
    lines = read_lines(path)
    if not lines or not set(lines[0]) > _NOT_MODELS:
        raise BadRequest(f"{path}: fix: columns prompt, task, split and one for each model")
    lines = [line for line in lines if line["split"] == "train" and line["task"] in FAMILIES]
    models = sorted(set(lines[0]) - _NOT_MODELS)
    order = np.random.default_rng(seed).permutation(len(lines))
    lines = [lines[index] for index in order]
    prompts = [line["prompt"] for line in lines]
    scores = np.array([[float(line[name]) for name in models] for line in lines])
    tasks = np.array([line["task"] for line in lines])
    return Labelled(features_of(prompts), scores, tasks, vectors_of(model, prompts, kept)), models


def _light_file(name: str, head: Ridge, bias: float, sha256: str) -> LightFile:
    weights = {
        feature: (_short(mean), _short(scale), _short(weight))
        for feature, mean, scale, weight, used in zip(
            Features._fields, *head.scaling[:2], head.weights, head.scaling.used, strict=True
        )
        if used
    }
    digest = hashlib.sha256(msgspec.json.encode([sha256, VERSION, weights])).hexdigest()[:12]
    return LightFile(version=f"{name}-{digest}", features=VERSION, bias=_short(bias), weights=weights)


def _embed_file(head: Ridge, sha256: str, model: Model) -> EmbedFile:
    vector = np.asarray(head.vector_weights, "<f4")
    made_of = f"{sha256}{model.version}{view.VERSION}"
    light = _light_file("embed", head, head.bias - float(head.centre @ head.vector_weights), made_of)
    weights = base64.b64encode(vector.tobytes()).decode()
    return EmbedFile(light=light, encoder=model.version, view=view.VERSION, vector=weights)


def _short(value: Any) -> float:
    """Six digits, as no weight is known better."""
    return float(f"{float(value):.6g}")


def _shown(choice: Choice) -> dict[str, Any]:
    return {**choice._asdict(), "held_out_apgr": round(choice.held_out_apgr, 4), "error": round(choice.error, 4)}


if __name__ == "__main__":
    sys.exit(main())
