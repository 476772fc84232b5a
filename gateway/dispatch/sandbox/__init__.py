"""A simulated model behind the whole gateway: no key, no GPU, the same bytes for the same request.

`respond` is pure; `Sandbox` is the small adapter that waits out its delays. Nothing here reads the network.
"""

from gateway.dispatch.sandbox.answer import FINGERPRINT, SIMULATED, Answer, Profile, profile
from gateway.dispatch.sandbox.respond import Reply, Sandbox, respond

__all__ = ["FINGERPRINT", "SIMULATED", "Answer", "Profile", "Reply", "Sandbox", "profile", "respond"]
