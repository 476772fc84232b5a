"""LangChain's own standard tests for chat models and embeddings, unchanged, against the gateway."""

import pytest

pytest.importorskip("langchain_tests", reason="needs the client libraries: make test-clients")

from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests

pytestmark = pytest.mark.filterwarnings("default")


class TestChat(ChatModelIntegrationTests):
    """sandbox-small through langchain-openai."""

    @pytest.fixture(autouse=True)
    def _gateway(self, base_url):
        type(self)._base_url = base_url

    @property
    def chat_model_class(self):
        return ChatOpenAI

    @property
    def chat_model_params(self):
        return {"model": "sandbox-small", "base_url": self._base_url, "api_key": "sk-unused", "stream_usage": True}

    @property
    def supports_image_inputs(self):
        return False


class TestEmbeddings(EmbeddingsIntegrationTests):
    """sandbox-small's embeddings."""

    @pytest.fixture(autouse=True)
    def _gateway(self, base_url):
        type(self)._base_url = base_url

    @property
    def embeddings_class(self):
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self):
        return {
            "model": "sandbox-small",
            "base_url": self._base_url,
            "api_key": "sk-unused",
            "check_embedding_ctx_length": False,  # else it fetches a tokenizer
        }
