"""Metrics and spans, both built from the finished record, off the request path."""
