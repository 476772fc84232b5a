"""instructor, llama-index and the `llm` command line: each changes its base URL and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.filterwarnings("default")
REASON = "needs the client libraries: make test-clients"


def test_instructor(base_url):
    instructor = pytest.importorskip("instructor", reason=REASON)
    import openai
    import pydantic

    class User(pydantic.BaseModel):
        name: str
        age: int

    client = instructor.from_openai(openai.OpenAI(base_url=base_url, api_key="sk-unused"))
    messages = [{"role": "user", "content": "Ada is 36 years old."}]
    user = client.chat.completions.create(model="sandbox-small", response_model=User, messages=messages)
    assert isinstance(user, User)


def test_llama_index(base_url):
    pytest.importorskip("llama_index.llms.openai", reason=REASON)
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai import OpenAI

    class Sandbox(OpenAI):
        @property
        def metadata(self):
            from llama_index.core.base.llms.types import LLMMetadata

            return LLMMetadata(context_window=8192, num_output=256, is_chat_model=True, model_name=self.model)

    model = Sandbox(model="sandbox-small", api_base=base_url, api_key="sk-unused")
    assert str(model.chat([ChatMessage(role="user", content="hello")]).message.content)
    assert "".join(part.delta or "" for part in model.stream_chat([ChatMessage(role="user", content="hello")]))


def test_the_llm_command_line(base_url, tmp_path):
    pytest.importorskip("llm", reason=REASON)
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: gw\n  model_name: sandbox-small\n  api_base: {base_url}\n"
    )
    env = {**os.environ, "LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "sk-unused"}
    command = [str(Path(sys.executable).parent / "llm"), "-m", "gw", "Say hello."]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
