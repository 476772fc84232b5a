"""Replicas of one model: which are healthy, which one is next."""
