"""`POST /v1/completions`: the answer as one object, or as a stream of chunks."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from tritonllm.gateway import (
    answers,
    chunks,
    completion_fields,
    generation,
    logprobs,
    reading,
    records,
    sse,
    upstream,
)


def route(source: upstream.Upstream) -> reading.Handler:
    """The handler of the route."""

    async def answer(request: Request) -> Response | sse.EventStream:
        body = completion_fields.CompletionRequest.read(await reading.document(request))
        asked = generation.Generation(
            source, records.of(request.scope), body.model, body.prompts(), body.choices
        )
        if body.stream:
            return sse.EventStream(CompletionStream(asked, body))
        deltas = await asked.collect(request.receive)
        return reading.respond(completion(asked, body, deltas), asked.headers())

    return answer


def completion(
    asked: generation.Generation, body: completion_fields.CompletionRequest, deltas: Iterable[answers.Delta]
) -> dict[str, Any]:
    """OpenAI's `text_completion` object."""
    choices = [_Choice() for _ in range(len(asked.answers) * body.choices)]
    for delta in deltas:
        choices[delta.choice].add(delta)
    return {
        "id": new_id(),
        "object": "text_completion",
        "created": int(time.time()),
        "model": body.model,
        "choices": [choice.described(index, body.logprobs) for index, choice in enumerate(choices)],
        "usage": asked.usage().described(),
        "guardrails": answers.guardrails(asked.answers),
    }


class _Choice:
    """One answer, put together from its deltas."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.logprobs: list[dict[str, Any]] = []
        self.finish_reason = "stop"

    def add(self, delta: answers.Delta) -> None:
        self.text.append(delta.text)
        self.logprobs += delta.logprobs or []
        self.finish_reason = delta.finish_reason or self.finish_reason

    def described(self, index: int, top: int | None) -> dict[str, Any]:
        return {
            "index": index,
            "text": "".join(self.text),
            "logprobs": None if top is None else logprobs.completion(self.logprobs, top, 0),
            "finish_reason": self.finish_reason,
        }


class CompletionStream(chunks.ChunkStream):
    """The stream of `text_completion` objects."""

    def __init__(self, asked: generation.Generation, body: completion_fields.CompletionRequest) -> None:
        choices = len(asked.answers) * body.choices
        super().__init__(
            asked,
            new_id(),
            "text_completion",
            choices=choices,
            include_usage=body.include_usage,
            continuous_usage=body.continuous_usage,
        )
        self._top = body.logprobs
        self._offsets = [0] * choices

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def delta(self, delta: answers.Delta) -> bytes:
        """One chunk."""
        if self._top is None:
            return self._chunk(delta.choice, delta.text)
        listed = logprobs.completion(delta.logprobs or [], self._top, self._offsets[delta.choice])
        # By the tokens, as in an answer that is not streamed: a character of several tokens is in none of their texts.
        self._offsets[delta.choice] += sum(map(len, listed["tokens"]))
        return self._chunk(delta.choice, delta.text, orjson.dumps(listed))

    def refusal(self) -> bytes:
        """Nothing: a completion has no field for it; the finish reason says it."""
        return b""

    def finish(self, delta: answers.Delta) -> bytes:
        """The chunk with the finish reason."""
        return self._chunk(delta.choice, "", finish_reason=orjson.dumps(delta.finish_reason))

    def _chunk(self, index: int, text: str, listed: bytes = b"null", finish_reason: bytes = b"null") -> bytes:
        return self.chunk(
            b'{"index":%d,"text":%b,"logprobs":%b,"finish_reason":%b}'
            % (index, orjson.dumps(text), listed, finish_reason)
        )


def new_id() -> str:
    """An id for a completion."""
    return f"cmpl-{uuid.uuid4().hex}"
