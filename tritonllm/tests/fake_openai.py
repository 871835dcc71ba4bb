"""OpenAI's routes with answers from a script, as the page and its tests need them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from fake_upstream import FakeUpstream
from tritonllm.gateway import records

STORY = "Once upon a time there was a server. It answered all who asked, one token after the other. " * 12


class FakeOpenAI:
    """The routes.

    Attributes:
        asked: the body of each chat completion.
        left: set when a client left an answer that goes on.
    """

    def __init__(self, upstream: FakeUpstream) -> None:
        self.upstream = upstream
        self.asked: list[dict[str, Any]] = []
        self.left = threading.Event()
        self.app = Starlette(
            routes=[
                Route("/v1/models", self.models),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/moderations", self.moderate, methods=["POST"]),
            ]
        )

    async def models(self, request: Request) -> Response:
        names = [name for name in self.upstream.names if records.of(request.scope).allows(name)]
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})

    async def moderate(self, request: Request) -> Response:
        asked = await request.json()
        found = await self.upstream.check(asked["model"], asked["input"], asked["direction"])
        result = {"flagged": bool(found.guardrail), "categories": {}, "category_scores": {}}
        result |= {"text": found.text, "blocked": found.blocked, "guardrails": found.guardrail}
        return JSONResponse({"id": "modr-1", "model": asked["model"], "results": [result]})

    async def chat(self, request: Request) -> Response:
        asked = await request.json()
        self.asked.append(asked)
        text = asked["messages"][-1]["content"]
        found = await self.upstream.check(asked["model"], text, "input")
        if found.blocked:
            param = f"messages[{len(asked['messages']) - 1}].content"
            error = {"message": "a guardrail rule blocked the prompt", "type": "invalid_request_error", "param": param, "code": "content_filter"}  # fmt: skip
            return JSONResponse({"error": error, "guardrails": found.guardrail}, 400)
        if "busy" in text:
            error = {"message": "The endpoint's queue is full", "type": "rate_limit_error", "param": None, "code": "queue_full"}  # fmt: skip
            return JSONResponse({"error": error}, 429)
        return StreamingResponse(self._events(text, found.guardrail), media_type="text/event-stream")

    async def _events(self, text: str, verdicts: list[dict[str, Any]]) -> AsyncIterator[bytes]:
        yield _chunk({"role": "assistant", "content": ""})
        yield b": keep-alive\n\n"
        reason = "stop"
        if "wait" in text:
            try:
                yield _chunk({"content": "Let me think"})
                await asyncio.sleep(3600)
            finally:
                self.left.set()
        if "break" in text:
            yield _chunk({"content": "This goes wr"})
            yield b'data: {"error": {"message": "The engine failed", "type": "server_error", "param": null, "code": "engine_failure"}}\n\n'  # fmt: skip
            yield b"data: [DONE]\n\n"
            return
        answer = {"Germany": "The capital of Germany is [REDACTED]. Write to us by mail.", "story": STORY}
        whole = next((said for word, said in answer.items() if word in text), f"You wrote: {text}\nBye, ü €.")
        if "Germany" in text:
            verdicts = [*verdicts, {"rule": "cities", "action": "Mask", "direction": "output", "count": 1}, {"rule": "mails", "action": "Flag", "direction": "output", "count": 1}]  # fmt: skip
        if "plans" in text:
            whole, reason = "The plans of the project are ", "content_filter"
            verdicts = [{"rule": "secrets", "action": "Block", "direction": "output", "count": 1}]
        for start in range(0, len(whole), 7):
            yield _chunk({"content": whole[start : start + 7]})
            await asyncio.sleep(0)
        yield _chunk({}, reason, verdicts)
        usage = {
            "prompt_tokens": 12,
            "completion_tokens": len(whole) // 4,
            "total_tokens": 12 + len(whole) // 4,
        }
        yield b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\ndata: [DONE]\n\n"


def _chunk(
    delta: dict[str, Any], reason: str | None = None, verdicts: list[dict[str, Any]] | None = None
) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
    found: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice], "usage": None}  # fmt: skip
    if verdicts is not None:
        found["guardrails"] = verdicts
    return b"data: " + json.dumps(found, ensure_ascii=False).encode() + b"\n\n"
