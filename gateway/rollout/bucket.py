"""Which requests a policy on trial gets: a share of them, always the same ones. Pure.

A request has a bucket in [0, 1), and is on trial while its bucket is below the share. The bucket is a hash of the
candidate and of what the request belongs to, so that it is the same on every replica, a larger share keeps whoever was
in, and another candidate begins with others.
"""

from hashlib import blake2b

from gateway.cache.keys import user_of
from gateway.core.exchange import Call, Identity

SESSION = b"x-farthing-session"
_STEPS = 1 << 48


def anchor(call: Call, identity: Identity, request_id: str) -> str:
    """What stays together: a session, else the end user whom the request names, else the request alone.

    Sessions and users of two tenants never meet, nor those of two keys where the user is all that is known.
    """
    session = call.index.get(SESSION)
    if session is not None:
        return f"session\0{identity.tenant}\0{session.decode('latin-1')}"
    user = user_of(call)
    if user is not None:
        return f"user\0{identity.tenant}\0{identity.key}\0{user}"
    return f"request\0{request_id}"


def bucket(candidate: str, anchored: str) -> float:
    """In [0, 1), uniform over what is anchored. `candidate` is the policy's hash."""
    digest = blake2b(f"{candidate}\0{anchored}".encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return int.from_bytes(digest, "big") / _STEPS
