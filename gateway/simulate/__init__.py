"""Recorded traffic through the real policy code: what another policy would have done, cost and lost."""
