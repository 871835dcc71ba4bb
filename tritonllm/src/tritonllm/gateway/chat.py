"""`POST /v1/chat/completions`: the answer as one object, or as a stream of chunks."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from tritonllm import errors
from tritonllm.gateway import (
    answers,
    chat_fields,
    failures,
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
            source, records.of(request.scope), body.model, [body.inputs()], body.choices, body.names
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


class ChatStream:
    """The chunks of a stream. Their JSON is put together from parts that are ready, since there are so many."""

    def __init__(self, asked: generation.Generation, body: chat_fields.ChatRequest) -> None:
        self._asked = asked
        self._body = body
        common = {
            "id": new_id(),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": body.model,
        }
        self._head = b"data: " + orjson.dumps(common)[:-1] + b',"choices":['
        self._usage = body.include_usage
        self._continuous = body.continuous_usage
        self._tail = b'],"usage":null}\n\n' if self._usage else b"]}\n\n"
        self._top = body.top
        self._open = body.choices
        self._roles = False
        self._held: answers.Delta | None = None

    async def next(self) -> tuple[bytes, bool]:
        """See `sse.Events`."""
        deltas, last = await self._asked.receive()
        found = [] if self._roles else [self._begin()]
        for delta in deltas:
            if delta.text or delta.reasoning or delta.tool_calls or delta.logprobs:
                found.append(self._chunks(delta))
            if delta.finish_reason is not None:
                self._open -= 1
                if self._open:
                    found.append(self._finish(delta))
                else:
                    # The last chunk with a choice also has what the rules found, which is known at the end.
                    self._held = delta
        if last:
            found.append(self._end())
        return b"".join(found), last

    def failed(self, error: errors.RequestError) -> bytes:
        """See `sse.Events`."""
        return failures.event(error) + sse.DONE

    def headers(self) -> Mapping[str, str]:
        """See `sse.Events`."""
        return self._asked.headers()

    def close(self) -> None:
        """See `sse.Events`."""
        self._asked.close()

    def _begin(self) -> bytes:
        self._roles = True
        role = b'{"role":"assistant","content":"","refusal":null}'
        return b"".join(self._chunk(index, role) for index in range(self._body.choices))

    def _chunks(self, delta: answers.Delta) -> bytes:
        found = b""
        if delta.reasoning:
            found = self._chunk(delta.choice, b'{"reasoning":' + orjson.dumps(delta.reasoning) + b"}")
        if delta.text or delta.logprobs:
            text = b'{"content":' + orjson.dumps(delta.text) + b"}"
            if self._top is None:
                found += self._chunk(delta.choice, text)
            else:
                listed = orjson.dumps(
                    {"content": logprobs.chat(delta.logprobs or [], self._top), "refusal": None}
                )
                found += self._chunk(delta.choice, text, logprobs=listed)
        if delta.tool_calls:
            found += self._chunk(delta.choice, b'{"tool_calls":' + delta.tool_calls.encode() + b"}")
        return found

    def _chunk(
        self, index: int, delta: bytes, *, logprobs: bytes = b"null", finish_reason: bytes = b"null"
    ) -> bytes:
        return b'%b{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}%b' % (
            self._head,
            index,
            delta,
            logprobs,
            finish_reason,
            self._usage_so_far() if self._continuous else self._tail,
        )

    def _usage_so_far(self) -> bytes:
        return b'],"usage":%b}\n\n' % orjson.dumps(self._asked.usage().described())

    def _finish(self, delta: answers.Delta) -> bytes:
        return self._chunk(delta.choice, b"{}", finish_reason=orjson.dumps(delta.finish_reason))

    def _end(self) -> bytes:
        found = b""
        if self._asked.answers[0].refused:
            refusal = b'{"refusal":' + orjson.dumps(answers.REFUSAL) + b"}"
            found = b"".join(self._chunk(index, refusal) for index in range(self._body.choices))
        guardrails = orjson.dumps(answers.guardrails(self._asked.answers))
        if self._held is not None:
            found += self._finish(self._held)[: -len(b"}\n\n")] + b',"guardrails":' + guardrails + b"}\n\n"
        if self._usage:
            found += self._head + self._usage_so_far()
        return found + sse.DONE


def new_id() -> str:
    """An id for a completion."""
    return f"chatcmpl-{uuid.uuid4().hex}"
