"""The tier that needs no model: features, standardised and clipped, times the weights of a shipped file.

Serving reads a JSON of under 4 KB and multiplies in plain Python; knows no text, threshold or store. A head that does
not load is an error at start, never a wrong score: who routes then sends everything to the strong target.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from gateway.core.errors import GatewayError
from gateway.routing.features import VERSION, Features
from gateway.routing.reading import Caller

HEADS: Final = Path(__file__).parent / "heads"
CLIP: Final = 4.0
"""A feature counts for at most this many standard deviations of the training data."""


class HeadError(GatewayError):
    """A head that is missing, cut, or was fitted on other features: routing has no classifier."""

    status = 503
    code = "routing_head_unavailable"


class LightFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`light.json`: by name, each used feature's mean, standard deviation and weight (gain per deviation).

    `callers`: what is added for `tenant:NAME` and `tag:NAME`; empty in the shipped head.
    """

    version: str
    features: int
    bias: float
    weights: dict[str, tuple[float, float, float]]
    callers: dict[str, float] = {}


class LightHead:
    """Scores features; one object serves all requests."""

    def __init__(self, file: LightFile) -> None:
        """Raises `HeadError` where the file was fitted on other features."""
        names = {name: index for index, name in enumerate(Features._fields)}
        unknown = set(file.weights) - set(names)
        if file.features != VERSION or unknown:
            raise HeadError(
                f"head {file.version} is for features {file.features}, not {VERSION}; fix: reinstall, or train anew"
            )
        if not all(scale > 0 for _, scale, _ in file.weights.values()):
            raise HeadError(f"head {file.version} has a scale that is not positive; fix: reinstall, or train anew")
        self.version = file.version
        self._bias = file.bias
        self._terms = [
            (names[name], mean, CLIP * scale, weight / scale) for name, (mean, scale, weight) in file.weights.items()
        ]
        self._callers = file.callers

    def score(self, features: Sequence[float], caller: Caller | None = None) -> float:
        """The expected gain of the strong model, in the quality units of the training labels; finite."""
        gain = self._bias
        for index, mean, most, weight in self._terms:
            off = features[index] - mean
            gain += weight * (most if off > most else max(off, -most))
        if self._callers and caller is not None:
            gain += self._callers.get(f"tenant:{caller.tenant}", 0.0)
            gain += sum([self._callers.get(f"tag:{tag}", 0.0) for tag in caller.tags])
        return gain


def open_light(path: Path = HEADS / "light.json") -> LightHead:
    """The head of a file, the shipped one if none is named. Raises `HeadError`."""
    try:
        return LightHead(msgspec.json.decode(path.read_bytes(), type=LightFile))
    except (OSError, msgspec.DecodeError) as exc:
        raise HeadError(f"{path}: {exc}; fix: reinstall, or python -m gateway.routing.train") from exc
