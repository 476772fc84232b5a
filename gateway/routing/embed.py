"""The tier that also reads the encoder's vector: one more dot product beside the weighted features.

The vector is the one that the semantic cache looked up with, so this tier costs a request nothing more where there is
a cache; elsewhere it is of the text's view (`view`), on which the head was fitted. Without a vector (the encoder
failed, or was late) the light head's score stands, which is on the same scale. Imports numpy when a head is opened.
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gateway.routing.light import HEADS, HeadError, LightFile, LightHead
from gateway.routing.reading import Caller
from gateway.routing.view import VERSION

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class EmbedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`embed.json`. `light` holds the weights that the features have beside a vector.

    `vector`: base64 of little-endian float32[d], gain per unit. `encoder`: whose vectors it was fitted on; those of
    another version are close but not the same, so a certificate names both. `view`: which part of a text they are of.
    """

    light: LightFile
    encoder: str
    view: str
    vector: str


class EmbedHead:
    """Scores features and a vector; one object serves all requests."""

    def __init__(self, file: EmbedFile) -> None:
        """Raises `HeadError` for weights that are no float32 array, or fitted on other features or another view."""
        import numpy as np  # noqa: PLC0415 - heavy, and only this tier needs it

        if file.view != VERSION:
            raise HeadError(
                f"head {file.light.version} is for view {file.view}, not {VERSION}; fix: reinstall, or train anew"
            )
        self._features = LightHead(file.light)
        self.version = file.light.version
        self.encoder = file.encoder
        try:
            self._vector: NDArray[np.float32] = np.frombuffer(base64.b64decode(file.vector, validate=True), "<f4")
        except ValueError as exc:
            raise HeadError(f"head {self.version}: {exc}; fix: reinstall, or train anew") from exc

    def score(self, features: Sequence[float], vector: "NDArray[np.float32]", caller: Caller | None = None) -> float:
        """The expected gain; `vector` is `float32[d]`, unit norm. Raises `HeadError` for another d."""
        if vector.shape != self._vector.shape:
            raise HeadError(f"head {self.version} is for vectors of {len(self._vector)} numbers, not {vector.shape}")
        return self._features.score(features, caller) + float(self._vector @ vector)


def open_embed(path: Path = HEADS / "embed.json") -> EmbedHead:
    """The head of a file, the shipped one if none is named. Raises `HeadError`."""
    try:
        return EmbedHead(msgspec.json.decode(path.read_bytes(), type=EmbedFile))
    except (OSError, msgspec.DecodeError) as exc:
        raise HeadError(f"{path}: {exc}; fix: reinstall, or python -m gateway.routing.train") from exc
