"""The rules of an endpoint for LiteLLM: its generic guardrail API, `POST /beta/litellm_basic_guardrail_api`.

LiteLLM sends the texts of a request to another model, or of its answer, and blocks or replaces them as this says.
The endpoint whose rules apply is `additional_provider_specific_params.model` of LiteLLM's configuration, or the only
one that the API key is valid for. Texts, tool definitions and arguments of tool calls are checked; images are not.

The protocol: https://docs.litellm.ai/docs/adding_provider/generic_guardrail_api
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tritonllm import errors
from tritonllm.gateway import reading, records
from tritonllm.gateway.upstream import Upstream, Verdict

PATH = "/beta/litellm_basic_guardrail_api"

# As many texts of one request are checked at a time; a conversation can have a thousand.
_AT_A_TIME = 16

_DIRECTIONS: dict[Any, Literal["input", "output"]] = {"request": "input", "response": "output"}


def route(upstream: Upstream) -> Route:
    """The route of the API; the application turns the errors that it raises into responses."""

    async def answer(request: Request) -> Response:
        found = await _decide(upstream, records.of(request.scope), await reading.document(request))
        return reading.respond(found)

    return Route(PATH, answer, methods=["POST"])


async def _decide(upstream: Upstream, record: records.Record, document: dict[str, Any]) -> dict[str, Any]:
    direction = _DIRECTIONS.get(document.get("input_type"))
    if direction is None:
        raise errors.RequestError("invalid_argument", "input_type", "must be `request` or `response`")
    texts = document.get("texts") or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise errors.RequestError("invalid_argument", "texts", "must be a list of strings")
    tools = list(_strings([document.get("tools"), document.get("tool_calls")]))
    endpoint = _endpoint(upstream, record, document)
    turns = asyncio.Semaphore(_AT_A_TIME)

    async def check(text: str) -> Verdict:
        async with turns:
            return await upstream.check(endpoint, text, direction)

    verdicts = await asyncio.gather(*map(check, [*texts, *tools]))
    return decision(texts, verdicts[: len(texts)], verdicts[len(texts) :])


def decision(texts: list[str], of_texts: list[Verdict], of_tools: list[Verdict]) -> dict[str, Any]:
    """What LiteLLM has to do; pure.

    Args:
        texts: what was checked.
        of_texts: what the rules say of each text.
        of_tools: what they say of tool definitions and arguments. LiteLLM cannot replace parts of these, so they are
            blocked where a text would be masked.
    """
    rules = _rules(of_texts, {"Block"}) | _rules(of_tools, {"Block", "Mask"})
    if rules or any(verdict.blocked for verdict in (*of_texts, *of_tools)):
        # Names the rules, never what they matched.
        return {
            "action": "BLOCKED",
            "blocked_reason": f"Blocked by guardrail rules: {', '.join(sorted(rules))}",
        }
    masked = [verdict.text for verdict in of_texts]
    if masked != texts:
        return {"action": "GUARDRAIL_INTERVENED", "texts": masked}
    return {"action": "NONE"}


def _rules(verdicts: list[Verdict], actions: set[str]) -> set[str]:
    return {
        found["rule"] for verdict in verdicts for found in verdict.guardrail if found["action"] in actions
    }


def _endpoint(upstream: Upstream, record: records.Record, document: dict[str, Any]) -> str:
    field = "additional_provider_specific_params.model"
    parameters = document.get("additional_provider_specific_params")
    name = parameters.get("model") if isinstance(parameters, dict) else None
    known = [each for each in sorted(upstream.endpoints()) if record.allows(each)]
    if name is None:
        if len(known) != 1:
            message = f"must name the endpoint whose rules apply: {', '.join(known) or 'none is available'}"
            raise errors.RequestError("invalid_argument", field, message)
        name = known[0]
    if name not in upstream.endpoints():
        raise errors.RequestError("model_not_found", field, f"the model `{name}` does not exist")
    record.ask(name)
    return name


def _strings(value: Any) -> Iterable[str]:
    """All strings in a JSON value, keys included; of JSON in a string, as tool calls have it, those inside."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
    elif isinstance(value, str):
        yield value
        if value.lstrip()[:1] in ("{", "["):
            try:
                yield from _strings(json.loads(value))
            except (ValueError, RecursionError):
                return
