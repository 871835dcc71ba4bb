"""What of the weights is part of an engine's hash: what the user wants, never what somebody found out."""

from __future__ import annotations

from typing import Any

from tritonllm import api
from tritonllm.render import config

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def engine(model: dict[str, Any], **more: Any) -> str:
    endpoint = api.LLMEndpoint.model_validate(
        {
            "apiVersion": api.API_VERSION,
            "kind": api.KIND,
            "metadata": {"name": "chat"},
            "spec": {"pool": "llm", "model": {"repo": "org/model"} | model, "guardrails": {}},
        }
        | more
    )
    return str(config.models(endpoint)[0])


def test_a_resolved_commit_is_nowhere_in_the_config() -> None:
    assert engine({}, resolved={"commit": COMMIT}) == engine({})


def test_pickle_counts_only_where_it_is_allowed() -> None:
    assert engine({"allowPickle": False}) == engine({})
    assert engine({"allowPickle": True}) != engine({})
