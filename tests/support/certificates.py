"""Certificates for tests: sound by their form, made from a synthetic sample, for the parts that are installed."""

from pathlib import Path

import numpy as np

from gateway.guarantee.certificate import Certificate, Subject, dump, path_of
from gateway.guarantee.certify import Sample, Target, certify


def certificate(route: str, versions: dict[str, str], threshold: float = 0.5, alpha: float = 0.01) -> Certificate:
    """One that accepts from `threshold` on."""
    scores = np.concatenate([np.full(1000, threshold), np.full(1000, -np.inf)])
    subject = Subject(
        kind="cache", route=route, date="2026-01-01T00:00:00+00:00", data_hash="synthetic", versions=versions
    )
    made = certify(Sample(scores, np.zeros(2000)), [threshold], Target(alpha=alpha), subject)
    assert isinstance(made, Certificate), made
    return made


def certify_route(policies: Path, route: str, versions: dict[str, str], **more: float) -> None:
    """Puts one beside the policy; a running gateway sees it within a second."""
    path = policies / path_of("cache", route)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(dump(certificate(route, versions, **more)))
