"""`POST /v1/moderations`: the rules of an endpoint as a moderation model, without its engine.

The categories are the endpoint's rules. A text is flagged if any rule matches it, whatever the rule's action is. Beside
OpenAI's fields, a result has the text as the rules leave it, whether they block it, and `guardrails`.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Annotated, Any, Literal

import pydantic
from starlette.requests import Request
from starlette.responses import Response

from tritonllm.gateway import fields, reading, records, upstream
from tritonllm.gateway.fields import constrained, supported

_MAX_INPUTS = 128
# A caller with many texts must not occupy all of the endpoint's rules.
_AT_A_TIME = 8


def _kind(given: Any) -> str:
    return "texts" if isinstance(given, list) else "text"


Texts = Annotated[
    Annotated[str, pydantic.Tag("text")]
    | Annotated[list[str], pydantic.Field(min_length=1, max_length=_MAX_INPUTS), pydantic.Tag("texts")],
    pydantic.Discriminator(_kind),
]


class ModerationRequest(fields.Body, fields.Fields):
    """The body."""

    model: Annotated[str, supported("Constrained", "Name of the endpoint whose rules are applied.")]
    input: Annotated[Texts, constrained("Guarded", "A text, or a list of at most 128; no images.")]
    direction: Annotated[
        Literal["input", "output"] | None,
        supported("Constrained", "Ours: whether the input rules are applied (default), or the output rules."),
    ] = None


def route(source: upstream.Upstream) -> reading.Handler:
    """The handler of the route."""

    async def answer(request: Request) -> Response:
        body = ModerationRequest.read(await reading.document(request))
        record = records.of(request.scope)
        # An adapter has the rules of its endpoint.
        endpoint, _ = upstream.split(body.model)
        known = source.endpoints().get(endpoint)
        if known is not None or not record.allows(endpoint):
            record.ask(endpoint)
        texts = [body.input] if isinstance(body.input, str) else body.input
        turns = asyncio.Semaphore(_AT_A_TIME)

        async def check(text: str) -> upstream.Verdict:
            async with turns:
                return await source.check(endpoint, text, body.direction or "input")

        verdicts = await asyncio.gather(*map(check, texts))
        content = {
            "id": f"modr-{uuid.uuid4().hex}",
            "model": body.model,
            "results": [result(verdict) for verdict in verdicts],
        }
        return reading.respond(content, {"X-Guardrail-Policy": known.policy} if known else {})

    return answer


def result(verdict: upstream.Verdict) -> dict[str, Any]:
    """OpenAI's `moderation` object. A rule that did not match is not listed: a policy is not public."""
    rules = sorted({found["rule"] for found in verdict.guardrail})
    return {
        "flagged": bool(rules) or verdict.blocked,
        "categories": dict.fromkeys(rules, True),
        "category_scores": dict.fromkeys(rules, 1.0),
        "category_applied_input_types": {rule: ["text"] for rule in rules},
        "blocked": verdict.blocked,
        "text": verdict.text,
        "guardrails": verdict.guardrail,
    }
