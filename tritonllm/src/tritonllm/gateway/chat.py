"""`POST /v1/chat/completions`: the answer as one object, or as a stream of chunks."""

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
    chat_fields,
    chunks,
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
        body = chat_fields.ChatRequest.read(await reading.document(request))
        asked = generation.Generation(
            source, records.of(request.scope), body.model, [body.prompt()], body.choices
        )
        if body.stream:
            return sse.EventStream(ChatStream(asked, body))
        deltas = await asked.collect(request.receive)
        return reading.respond(completion(asked, body, deltas), asked.headers())

    return answer


def completion(
    asked: generation.Generation, body: chat_fields.ChatRequest, deltas: Iterable[answers.Delta]
) -> dict[str, Any]:
    """OpenAI's `chat.completion` object."""
    choices = [Choice() for _ in range(body.choices)]
    for delta in deltas:
        choices[delta.choice].add(delta)
    refused = asked.answers[0].refused
    return {
        "id": new_id(),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body.model,
        "choices": [choice.described(index, refused, body.top) for index, choice in enumerate(choices)],
        "usage": asked.usage().described(),
        "guardrails": answers.guardrails(asked.answers),
    }


class Choice:
    """One answer, put together from its deltas."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[int, dict[str, Any]] = {}
        self.logprobs: list[dict[str, Any]] = []
        self.finish_reason = "stop"

    def add(self, delta: answers.Delta) -> None:
        """Takes what is new."""
        self.text.append(delta.text)
        self.reasoning.append(delta.reasoning)
        if delta.tool_calls:
            for part in orjson.loads(delta.tool_calls):
                self._add_call(part)
        if delta.logprobs:
            self.logprobs += delta.logprobs
        self.finish_reason = delta.finish_reason or self.finish_reason

    def _add_call(self, part: dict[str, Any]) -> None:
        call = self.calls.setdefault(
            part["index"], {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        )
        call["id"] += part.get("id") or ""
        for name in ("name", "arguments"):
            call["function"][name] += (part.get("function") or {}).get(name) or ""

    def described(self, index: int, refused: bool, top: int | None) -> dict[str, Any]:
        """OpenAI's `choice` object."""
        text, reasoning = "".join(self.text), "".join(self.reasoning)
        message: dict[str, Any] = {
            "role": "assistant",
            # As OpenAI says it: an answer that only calls tools has no content.
            "content": text if text or not self.calls else None,
            "refusal": answers.REFUSAL if refused else None,
            "annotations": [],
        }
        if reasoning:
            message["reasoning"] = reasoning
        if self.calls:
            message["tool_calls"] = [self.calls[index] for index in sorted(self.calls)]
        return {
            "index": index,
            "message": message,
            "logprobs": {"content": logprobs.chat(self.logprobs, top), "refusal": None}
            if top is not None
            else None,
            "finish_reason": self.finish_reason,
        }


class ChatStream(chunks.ChunkStream):
    """The stream of `chat.completion.chunk` objects."""

    def __init__(self, asked: generation.Generation, body: chat_fields.ChatRequest) -> None:
        super().__init__(
            asked,
            new_id(),
            "chat.completion.chunk",
            choices=body.choices,
            include_usage=body.include_usage,
            continuous_usage=body.continuous_usage,
        )
        self._top = body.top

    def begin(self) -> bytes:
        """The role of each choice."""
        return self._for_all(b'{"role":"assistant","content":"","refusal":null}')

    def delta(self, delta: answers.Delta) -> bytes:
        """One chunk for each kind of text."""
        found = b""
        if delta.reasoning:
            found = self._chunk(delta.choice, b'{"reasoning":' + orjson.dumps(delta.reasoning) + b"}")
        if delta.text or delta.logprobs:
            text = b'{"content":' + orjson.dumps(delta.text) + b"}"
            if self._top is None:
                found += self._chunk(delta.choice, text)
            else:
                listed = logprobs.chat(delta.logprobs or [], self._top)
                found += self._chunk(delta.choice, text, orjson.dumps({"content": listed, "refusal": None}))
        if delta.tool_calls:
            # They come in the form of OpenAI's deltas.
            found += self._chunk(delta.choice, b'{"tool_calls":' + delta.tool_calls.encode() + b"}")
        return found

    def refusal(self) -> bytes:
        """The refusal, for each choice."""
        return self._for_all(b'{"refusal":' + orjson.dumps(answers.REFUSAL) + b"}")

    def finish(self, delta: answers.Delta) -> bytes:
        """The chunk with the finish reason."""
        return self._chunk(delta.choice, b"{}", finish_reason=orjson.dumps(delta.finish_reason))

    def _for_all(self, delta: bytes) -> bytes:
        return b"".join(self._chunk(index, delta) for index in range(self._choices))

    def _chunk(
        self, index: int, delta: bytes, listed: bytes = b"null", finish_reason: bytes = b"null"
    ) -> bytes:
        return self.chunk(
            b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}'
            % (index, delta, listed, finish_reason)
        )


def new_id() -> str:
    """An id for a completion."""
    return f"chatcmpl-{uuid.uuid4().hex}"
