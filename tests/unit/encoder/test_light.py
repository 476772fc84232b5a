"""What importing the room costs: nothing heavy before a model is opened."""

import subprocess
import sys

HEAVY = ("numpy", "onnxruntime", "tokenizers", "onnx", "torch", "sentence_transformers")


def test_importing_the_room_loads_no_library():
    code = f"import sys, gateway.encoder, gateway.encoder.minilm; print([m for m in {HEAVY!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_opening_the_shipped_model_needs_neither_torch_nor_onnx():
    code = f"import sys, gateway.encoder as e; e.open_model(); print([m for m in {HEAVY[3:]!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
