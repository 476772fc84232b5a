"""Upstream calls: HTTP client, providers, retries, failover, breakers, deadlines."""
