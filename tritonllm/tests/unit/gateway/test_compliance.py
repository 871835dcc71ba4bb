"""The cases and schemas of llm-comply: OpenAI's for chat, and Open Responses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llm_comply
import pytest
from llm_comply import config, result, runner, schema, tests

import gateway_server
from scripted_upstream import ScriptedUpstream, end, piece
from tritonllm.gateway import app

# Of llm-comply 0.5.
pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")

SPECS = Path(llm_comply.__file__).parent / "specs"
CALL = {
    "index": 0,
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"location": "San Francisco"}'},
}

# There is no input but text, and reasoning summaries and compaction are OpenAI's own.
LACKING = {
    "chat-image-input",
    "chat-reasoning-summary",
    "image-input",
    "reasoning-summary",
    "compact-response",
}

CASES = [
    pytest.param(case, SPECS / spec, id=case.id)
    for spec, cases in (
        ("openai_chat.json", tests.get_tests("openai-chat")),
        ("openresponses.json", tests.get_tests("open-responses")),
    )
    for case in cases
    if case.id not in LACKING
]


def answer(asked: dict[str, Any]) -> list[Any]:
    if "chat_options" in asked:
        return [piece(""), end("", tool_calls=[json.dumps([CALL])], reason="tool_calls")]
    return [piece("Hel"), piece("lo"), end(" there")]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with gateway_server.serve(app.create_app(ScriptedUpstream(answer))) as served:
        yield f"{served.url}/v1"


@pytest.mark.parametrize(("case", "spec"), CASES)
def test_answers_are_what_the_schema_says(url: str, case: Any, spec: Path) -> None:
    asked = config.ComplianceConfig(base_url=url, api_key="none", model="chat")
    found = runner.TestRunner(asked, [case], schema.SpecLoader(str(spec))).run_one(case)
    assert (found.status, found.errors, found.warnings) == (result.TestStatus.PASSED, [], [])
