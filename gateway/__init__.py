"""Farthing: a cost-aware LLM gateway. Start reading at `gateway.pipeline`."""

__version__ = "0.1.0"
