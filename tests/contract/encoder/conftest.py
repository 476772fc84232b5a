"""The port over every model that is here: the shipped one, and sentence-transformers where its extra is installed."""

import pytest

from gateway.encoder import open_model
from tests.support.encoders import original


@pytest.fixture(scope="session", params=["shipped", "sentence-transformers"])
def model(request):
    return open_model("minilm" if request.param == "shipped" else str(original()))


@pytest.fixture(scope="session")
def fp32():
    return open_model(str(original()))
