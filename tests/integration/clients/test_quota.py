"""What the official OpenAI SDK makes of a budget with nothing left."""

import json

import pytest

from tests.integration.clients.conftest import POLICY
from tests.support.gateway import start_gateway

openai = pytest.importorskip("openai", reason="needs the client libraries: make test-clients")


def test_an_exhausted_budget_is_a_quota_error_that_the_sdk_does_not_retry():
    yaml = json.dumps({**POLICY, "budgets": [{"scope": "all", "limit": "$0.000001/day"}]})
    with start_gateway(yaml) as gateway, openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="unused") as sdk:
        with pytest.raises(openai.RateLimitError) as caught:
            sdk.chat.completions.create(model="sandbox-small", messages=[{"role": "user", "content": "x"}])
        assert caught.value.code == "insufficient_quota"
        assert gateway.metric("farthing_requests_total", status="429") == 1
