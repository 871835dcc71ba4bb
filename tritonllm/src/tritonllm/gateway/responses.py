"""`POST /v1/responses`: the answer as one response object, or as the events that build it.

`Writer` is the one place that knows how an answer consists of items (reasoning, message, calls of functions). It makes
the events as the deltas come; a caller who does not stream gets the items that have come together.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from tritonllm import errors
from tritonllm.gateway import answers, failures, generation, reading, records, responses_fields, sse, upstream

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def route(source: upstream.Upstream) -> reading.Handler:
    """The handler of the route."""

    async def answer(request: Request) -> Response | sse.EventStream:
        body = responses_fields.ResponsesRequest.read(await reading.document(request))
        asked = generation.Generation(source, records.of(request.scope), body.model, [body.asked()], 1)
        writer = Writer(body)
        if body.stream:
            return sse.EventStream(ResponseStream(asked, writer))
        for delta in await asked.collect(request.receive):
            writer.add(delta)
        writer.finish(asked)
        return reading.respond(writer.response, asked.headers())

    return answer


class Writer:
    """Puts a response together.

    Args:
        body: the request.

    Attributes:
        response: OpenAI's `response` object, as far as it is known.
    """

    def __init__(self, body: responses_fields.ResponsesRequest) -> None:
        self.response = _response(body)
        self._number = 0
        self._parts: list[str] = []
        self._open = ""
        self._place = b""
        self._calls: set[int] = set()
        self._reason = "stop"

    def begin(self) -> bytes:
        """The events at the start of a stream."""
        return self._snapshot("response.created") + self._snapshot("response.in_progress")

    def add(self, delta: answers.Delta) -> bytes:
        """The events of a delta."""
        found = b""
        if delta.reasoning:
            found += self._text("reasoning", delta.reasoning)
        if delta.text:
            found += self._text("message", delta.text)
        if delta.tool_calls:
            for part in orjson.loads(delta.tool_calls):
                found += self._call(part)
        self._reason = delta.finish_reason or self._reason
        return found

    def finish(self, asked: generation.Generation) -> bytes:
        """The events at the end of a stream."""
        found = b""
        if asked.answers[0].refused:
            found += self._text("refusal", answers.REFUSAL)
        elif not self.response["output"]:
            found += self._begin_text("message")
        found += self._close()
        used = asked.usage()
        incomplete = _INCOMPLETE.get(self._reason)
        self.response |= {
            "status": "incomplete" if incomplete else "completed",
            "completed_at": None if incomplete else int(time.time()),
            "incomplete_details": {"reason": incomplete} if incomplete else None,
            "usage": {
                "input_tokens": used.prompt,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": used.completion,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": used.prompt + used.completion,
            },
            "guardrails": answers.guardrails(asked.answers),
        }
        return found + self._snapshot(f"response.{self.response['status']}")

    def failed(self, error: errors.RequestError) -> bytes:
        """The events of a stream that has failed."""
        content = failures.content(error)["error"]
        # Open Responses has the error as an object, OpenAI's event has its fields side by side.
        event = self._event("error", {**content, "type": "error", "error": content})
        self.response |= {
            "status": "failed",
            "error": {"code": "server_error", "message": content["message"]},
        }
        return event + self._snapshot("response.failed")

    def _text(self, kind: str, text: str) -> bytes:
        found = b""
        if self._open != kind:
            found = self._close() + self._begin_text(kind)
        self._parts.append(text)
        # The event of nearly every token.
        self._number += 1
        name = _DELTA_EVENTS[kind]
        return found + (
            b'event: %b\ndata: {"type":"%b","sequence_number":%d,%b,"delta":%b%b}\n\n'
            % (
                name,
                name,
                self._number - 1,
                self._place,
                orjson.dumps(text),
                b',"logprobs":[]' if kind == "message" else b"",
            )
        )

    def _begin_text(self, kind: str) -> bytes:
        self._open = kind
        self._parts = []
        if kind == "reasoning":
            item = {
                "id": _id("rs"),
                "type": "reasoning",
                "summary": [],
                "content": [],
                "status": "in_progress",
            }
        else:
            item = {
                "id": _id("msg"),
                "type": "message",
                "role": "assistant",
                "content": [],
                "status": "in_progress",
            }
        found = self._add_item(item)
        self._place = orjson.dumps(self._where() | {"content_index": 0})[1:-1]
        part = self._where() | {"content_index": 0, "part": _part(kind, "")}
        return found + self._event("response.content_part.added", part)

    def _call(self, part: dict[str, Any]) -> bytes:
        found = b""
        function = part.get("function") or {}
        if part["index"] not in self._calls:
            found += self._close()
            self._open = "function_call"
            self._parts = []
            item = {
                "id": _id("fc"),
                "type": "function_call",
                "call_id": part.get("id") or _id("call"),
                "name": function.get("name") or "",
                "arguments": "",
                "status": "in_progress",
            }
            found += self._add_item(item)
            self._calls.add(part["index"])
        if arguments := function.get("arguments"):
            self._parts.append(arguments)
            found += self._event(
                "response.function_call_arguments.delta", self._where() | {"delta": arguments}
            )
        return found

    def _close(self) -> bytes:
        """The events that end the item that is open."""
        if not self._open:
            return b""
        kind, text = self._open, "".join(self._parts)
        self._open = ""
        item = self.response["output"][-1]
        item["status"] = "completed" if self._reason not in _INCOMPLETE else "incomplete"
        if kind == "function_call":
            item["arguments"] = text
            found = self._event(
                "response.function_call_arguments.done",
                self._where() | {"arguments": text, "name": item["name"]},
            )
        else:
            part = _part(kind, text)
            item["content"].append(part)
            where = self._where() | {"content_index": 0}
            name, field = _DONE_EVENTS[kind]
            logprobs = {"logprobs": []} if kind == "message" else {}
            found = self._event(name, {**where, field: text, **logprobs})
            found += self._event("response.content_part.done", {**where, "part": part})
        return found + self._event(
            "response.output_item.done", {"output_index": len(self.response["output"]) - 1, "item": item}
        )

    def _add_item(self, item: dict[str, Any]) -> bytes:
        self.response["output"].append(item)
        return self._event(
            "response.output_item.added", {"output_index": len(self.response["output"]) - 1, "item": item}
        )

    def _where(self) -> dict[str, Any]:
        index = len(self.response["output"]) - 1
        return {"item_id": self.response["output"][index]["id"], "output_index": index}

    def _snapshot(self, name: str) -> bytes:
        return self._event(name, {"response": self.response})

    def _event(self, name: str, content: Mapping[str, Any]) -> bytes:
        data = orjson.dumps({"type": name, "sequence_number": self._number, **content})
        self._number += 1
        return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


class ResponseStream:
    """See `sse.Events`."""

    def __init__(self, asked: generation.Generation, writer: Writer) -> None:
        self._asked = asked
        self._writer = writer
        self._begun = False

    async def next(self) -> tuple[bytes, bool]:
        """See `sse.Events`."""
        deltas, last = await self._asked.receive()
        found = [] if self._begun else [self._writer.begin()]
        self._begun = True
        found += [self._writer.add(delta) for delta in deltas]
        if last:
            found += [self._writer.finish(self._asked), sse.DONE]
        return b"".join(found), last

    def failed(self, error: errors.RequestError) -> bytes:
        """See `sse.Events`."""
        begin = b"" if self._begun else self._writer.begin()
        return begin + self._writer.failed(error) + sse.DONE

    def headers(self) -> Mapping[str, str]:
        """See `sse.Events`."""
        return self._asked.headers()

    def close(self) -> None:
        """See `sse.Events`."""
        self._asked.close()


_DELTA_EVENTS = {
    "reasoning": b"response.reasoning_text.delta",
    "message": b"response.output_text.delta",
    "refusal": b"response.refusal.delta",
}
_DONE_EVENTS = {
    "reasoning": ("response.reasoning_text.done", "text"),
    "message": ("response.output_text.done", "text"),
    "refusal": ("response.refusal.done", "refusal"),
}


def _part(kind: str, text: str) -> dict[str, Any]:
    if kind == "reasoning":
        return {"type": "reasoning_text", "text": text}
    if kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _response(body: responses_fields.ResponsesRequest) -> dict[str, Any]:
    """The response before there is an answer: what the request has said, and what is always so."""
    effort = body.reasoning.effort if body.reasoning else None
    given = body.text.format if body.text else None
    text_format = given.model_dump(by_alias=True, exclude_none=True) if given else {"type": "text"}
    return {
        "id": _id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": None,
        "metadata": body.metadata or {},
        "model": body.model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": effort, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": False,
        # The schemas ask for a number. What the endpoint's defaults are is not known here; 1 is OpenAI's.
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "presence_penalty": body.presence_penalty or 0.0,
        "frequency_penalty": body.frequency_penalty or 0.0,
        "text": {"format": text_format},
        "tool_choice": body.tool_choice or "auto",
        "tools": [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
                "strict": bool(tool.strict),
            }
            for tool in body.tools or []
        ],
        "top_logprobs": 0,
        "truncation": "disabled",
        "usage": None,
        "user": None,
    }


def _id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"
