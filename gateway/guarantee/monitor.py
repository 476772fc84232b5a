"""Decides, label by label, whether a certificate's claim has been refuted: a test by betting that may be read any time.

The null hypothesis is the certificate's claim, mean loss <= alpha. Several bets are laid against it; under it their
joint wealth is a supermartingale that starts at 1, so that the chance of its ever reaching 1 / delta is at most delta
however often one looks (Ville's inequality; Waudby-Smith and Ramdas, 2024). New bets start at fixed times out of a
reserve, so that a long good time does not use up what is needed to notice a bad one. Knows nothing of where the labels
come from: they must be those of requests that were sampled independently of their scores and answers, **every sampled
request of the route, with a loss of 0 where nothing was accepted**.

Fails closed: a refuted watch stays refuted, whatever comes later, until a new certificate brings a new watch.
"""

from typing import Final

import msgspec

from gateway.guarantee.certificate import Certificate, Probability

EPOCH: Final = 250
"""Labels after which new bets start."""
_BETS: Final = tuple(0.5**k for k in range(1, 11))
"""As shares of the bet that the best possible loss would ruin."""


class RiskWatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The test of one certificate so far: a small value for any store, as JSON.

    `seen` labels; `weight` is the sum of their weights and `loss` of their weighted losses. `stakes` is each bet's
    wealth. `refuted_at`: the number of the label that refuted the claim, `None` while it stands.
    """

    alpha: Probability
    delta: Probability
    low: float
    heaviest: float
    seen: int = 0
    weight: float = 0.0
    loss: float = 0.0
    stakes: tuple[float, ...] = (0.0,) * len(_BETS)
    refuted_at: int | None = None

    @property
    def wealth(self) -> float:
        """What 1 has become, with what is in reserve: evidence against the claim, refuted at 1 / delta."""
        return sum(self.stakes) + 1 / (_epochs(self.seen) + 1)

    @property
    def realised(self) -> float | None:
        """The mean loss so far; `None` before the first label."""
        return self.loss / self.weight if self.weight else None

    @property
    def refuted(self) -> bool:
        """Whether the certificate is void."""
        return self.refuted_at is not None


def watch(certificate: Certificate, *, low: float, heaviest: float = 1.0) -> RiskWatch:
    """A watch of this certificate. `low`: the least possible loss, 0 or -1. `heaviest`: the greatest weight to come."""
    return RiskWatch(alpha=certificate.alpha, delta=certificate.delta, low=low, heaviest=heaviest)


def observe(state: RiskWatch, loss: float, weight: float = 1.0) -> RiskWatch:
    """The watch after one more label; the same one once refuted.

    `weight` is 1 / the probability of the sampling, up to the constant that `heaviest` has too.
    ValueError: a loss out of [low, 1], a weight out of (0, heaviest].
    """
    if not state.low <= loss <= 1 or not 0 < weight <= state.heaviest:
        raise ValueError(f"loss {loss} or weight {weight} out of range")
    if state.refuted:
        return state
    fresh = 0.0
    if state.seen % EPOCH == 0:
        epoch = state.seen // EPOCH + 1
        fresh = 1 / (epoch * (epoch + 1)) / len(_BETS)
    gain = weight / state.heaviest * (loss - state.alpha) / (state.alpha - state.low)
    stakes = tuple((stake + fresh) * (1 + bet * gain) for stake, bet in zip(state.stakes, _BETS, strict=True))
    after = msgspec.structs.replace(
        state,
        seen=state.seen + 1,
        weight=state.weight + weight,
        loss=state.loss + weight * loss,
        stakes=stakes,
    )
    return after if after.wealth < 1 / state.delta else msgspec.structs.replace(after, refuted_at=after.seen)


def _epochs(seen: int) -> int:
    """How many epochs have begun."""
    return -(-seen // EPOCH)
