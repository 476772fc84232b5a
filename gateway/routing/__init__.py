"""Chooses between a weak and a strong target: features, heads, thresholds and their worth (docs/routing.md)."""
