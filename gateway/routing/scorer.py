"""The shipped heads behind one question: what the strong target would gain on a request.

Synchronous and pure but for opening; knows no threshold. A vector that does not come leaves the light score.
"""

from typing import TYPE_CHECKING

from gateway.core.exchange import Identity
from gateway.routing import view
from gateway.routing.decide import MEANING, Scored, Tier
from gateway.routing.embed import EmbedHead, open_embed
from gateway.routing.features import VERSION, request_features
from gateway.routing.judge import VERSION as JUDGE_PROMPT
from gateway.routing.light import HeadError, LightHead, open_light
from gateway.routing.reading import Request, caller_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NEIGHBOURS = "1"
"""Changes with how neighbours are weighed and blended."""


class Scorer:
    """See the module. `embed` is `None` where no policy asks for its tier."""

    def __init__(self, light: LightHead, embed: EmbedHead | None = None) -> None:
        self.light = light
        self.embed = embed

    def score(
        self,
        request: Request,
        identity: Identity | None,
        vector: "NDArray[np.float32] | None" = None,
        *,
        late: bool = False,
    ) -> Scored:
        """The gain by the best tier that can answer. `vector` is of `request.text`, `None` where there is none.

        `late` says that one was wanted and did not come; a text that is beyond the encoder's window has none by nature.
        """
        features, caller = request_features(request), caller_of(identity)
        if vector is not None and self.embed is not None:
            try:
                return Scored(self.embed.score(features, vector, caller), "embed", scorer=self.embed.version)
            except HeadError:
                late = True
        return Scored(self.light.score(features, caller), "light", late, self.light.version)

    def versions(self, tier: Tier, encoder: str | None) -> dict[str, str]:
        """The parts that a tier's scores depend on; `encoder` is the version of the one that serves.

        Which labels the neighbours' tier knows is no part: a threshold outlives them, and drift is watched.
        """
        if tier == "judge":
            return {"judge_prompt": JUDGE_PROMPT}
        found = {"features": str(VERSION), "head": self.light.version}
        if tier in MEANING:
            found["encoder"] = encoder or ""
            found["view"] = view.VERSION
            found["head_embed"] = self.embed.version if self.embed is not None else ""
        if tier == "neighbours":
            found["neighbours"] = NEIGHBOURS
        return found


def open_scorer(*, embed: bool) -> Scorer:
    """The shipped heads. Raises `HeadError`."""
    return Scorer(open_light(), open_embed() if embed else None)
