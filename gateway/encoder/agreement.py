"""How near one model's vectors are to another's, and on which texts."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


def read_texts(path: Path) -> list[str]:
    """One text a line, or the column `text` of a CSV file; empty ones left out."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return [row["text"] for row in csv.DictReader(file) if row["text"].strip()]
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def agreement(expected: "Floats", found: "Floats") -> dict[str, float]:
    """Cosines of the rows of two `float32[n, d]` at unit norm: how many, mean, first percentile, least."""
    cosines = (expected * found).sum(1)
    return {
        "sentences": len(cosines),
        "cosine_mean": round(float(cosines.mean()), 5),
        "cosine_p01": round(float(np.percentile(cosines, 1)), 5),
        "cosine_least": round(float(cosines.min()), 5),
    }
