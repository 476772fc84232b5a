"""Decides which requests become shadow calls: by a hash of the request's id, so independent of score and answer.

The probability of each is known, so what is learnt from them is unbiased with weights of 1 / probability. The id must
be the gateway's own: a caller who may choose it could choose not to be sampled. Money is the caller's: when its budget
is spent, no request is sampled, rather than some that look worth it.
"""

from hashlib import blake2b

_RANGE = float(2**53)


def uniform(request_id: str, salt: str) -> float:
    """A number in [0, 1) that the id and the salt determine; another salt (the route, say) draws anew."""
    digest = blake2b(request_id.encode(), key=blake2b(salt.encode(), digest_size=32).digest(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / _RANGE


def sampled(request_id: str, probability: float, salt: str) -> bool:
    """Whether the request is in a sample of this probability; then also in every greater sample of the same salt."""
    return uniform(request_id, salt) < probability


def weight(probability: float) -> float:
    """What a sampled row counts for. ValueError: a probability out of (0, 1]."""
    if not 0 < probability <= 1:
        raise ValueError(f"a sampling probability is in (0, 1], not {probability}")
    return 1 / probability
