"""Decides whether the stored answer to one question is right for another: guards, pair verifier, one score."""
