"""The YAML that a platform team edits, compiled into O(1) look-ups."""
