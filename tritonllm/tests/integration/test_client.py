"""The client library against the real tritonserver, over both of its protocols; engines are simulated."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from integration import ask, server
from tritonllm import client
from tritonllm.client import AsyncClient, Client
from tritonllm.runtime import metric_names

HEAD = "apiVersion: tritonllm.io/v1alpha1\nkind: LLMEndpoint\n"
ENDPOINTS = [
    HEAD
    + """
metadata: {name: words}
spec:
  pool: test
  engine: {type: simulated, args: {inter_token_seconds: 0.002, fail_on: please fail}}
  sampling: {maxTokensLimit: 1000}
  guardrails: {}
""",
    HEAD
    + """
metadata: {name: echo}
spec:
  pool: test
  engine: {type: simulated, args: {reply: echo}}
  guardrails:
    input: [{name: secret, banned: {phrases: [launch codes]}, action: Block}]
    output: [{name: bird, banned: {phrases: [falcon]}, action: Mask}]
""",
    HEAD
    + """
metadata: {name: small}
spec:
  pool: test
  engine: {type: simulated, args: {inter_token_seconds: 0.02}}
  guardrails: {}
  limits: {maxConcurrentRequests: 1, maxQueuedRequests: 0}
""",
    HEAD
    + """
metadata: {name: slow}
spec:
  pool: test
  engine: {type: simulated, args: {inter_token_seconds: 0.02}}
  guardrails: {}
""",
]
ENDLESS = {"ignore_eos": True, "max_tokens": 800}


@pytest.fixture(scope="module")
def served() -> Iterator[server.Served]:
    with server.running(ENDPOINTS) as running:
        yield running


@pytest.fixture(params=["grpc", "http"])
def url(request: pytest.FixtureRequest, served: server.Served) -> str:
    return getattr(served, request.param)


def is_idle(served: server.Served, endpoint: str) -> bool:
    return ask.metric(served, metric_names.RUNNING, endpoint=endpoint) == 0


def test_an_answer_is_the_same_whole_and_in_pieces(url: str) -> None:
    with Client(url) as asker:
        whole = asker.generate("words", "Hello")
        stream = asker.stream("words", "Hello")
        pieces = [chunk.text for chunk in stream]
    assert len(pieces) > 5
    assert "".join(pieces) == whole.text
    assert stream.answer == whole
    assert (whole.finish_reason, whole.input_tokens, whole.verdicts) == ("stop", 2, ())
    assert whole.output_tokens > 5


def test_choices_come_side_by_side(url: str) -> None:
    with Client(url) as asker:
        stream = asker.stream("words", "Hello", n=2, max_tokens=4)
        texts = ["", ""]
        for chunk in stream:
            texts[chunk.index] += chunk.text
    assert [choice.text for choice in stream.answer.choices] == texts
    assert texts[0] != texts[1]
    assert {choice.finish_reason for choice in stream.answer.choices} == {"length"}


def test_a_conversation_is_answered(url: str) -> None:
    with Client(url) as asker:
        assert asker.generate("echo", messages=[{"role": "user", "content": "grün 🦆"}]).text == "grün 🦆"


def test_what_the_guardrails_did_is_told(url: str) -> None:
    with Client(url) as asker:
        masked = asker.generate("echo", "a falcon, a falcon")
        refused = asker.generate("echo", "the launch codes")
    assert masked.text == "a [REDACTED], a [REDACTED]"
    assert masked.verdicts == (client.Verdict("bird", "Mask", "output", 2),)
    assert (refused.text, refused.finish_reason) == ("", "content_filter")
    assert refused.verdicts == (client.Verdict("secret", "Block", "input", 1),)


def test_a_text_is_checked_without_an_engine(url: str) -> None:
    with Client(url) as asker:
        assert asker.check("echo", "fine") == client.Moderation("fine", False, ())
        assert asker.check("echo", "the launch codes").blocked
        assert asker.check("echo", "Ein Fälcon? falcon!", direction="output").text.endswith("? [REDACTED]!")


@pytest.mark.parametrize(
    ("model", "prompt", "parameters", "kind", "field"),
    [
        ("words", "Hi", {"max_tokens": 1001}, client.InvalidRequest, "sampling_parameters.max_tokens"),
        ("words", "please fail", {}, client.EngineFailed, ""),
        ("words-engine", "Hi", {}, client.PermissionDenied, ""),
        ("nobody", "Hi", {}, client.ModelNotFound, ""),
        ("echo-guardrail", "Hi", {}, client.TritonLLMError, ""),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_errors_are_told_apart(
    url: str, streaming: bool, model: str, prompt: str, parameters: dict[str, Any], kind: type, field: str
) -> None:
    with Client(url) as asker, pytest.raises(kind) as caught:
        list(asker.stream(model, prompt, **parameters)) if streaming else asker.generate(
            model, prompt, **parameters
        )
    assert caught.value.field == field


def test_a_full_queue_is_told_apart(served: server.Served) -> None:
    with (
        Client(served.grpc) as asker,
        Client(served.http) as other,
        asker.stream("small", "Hi", **ENDLESS) as stream,
    ):
        next(stream)
        for each in (asker, other):
            with pytest.raises(client.QueueFull):
                each.generate("small", "Hi")


@pytest.mark.parametrize("how", ["break", "timeout", "cancel"])
def test_leaving_early_ends_the_request_at_the_server(served: server.Served, url: str, how: str) -> None:
    async def main() -> None:
        async with AsyncClient(url) as asker:
            if how == "break":
                async for _ in asker.stream("slow", "Hi", **ENDLESS):
                    break
            elif how == "timeout":
                with pytest.raises(client.Timeout):
                    await asker.generate("slow", "Hi", timeout=0.3, **ENDLESS)
            else:
                task = asyncio.create_task(asker.generate("slow", "Hi", **ENDLESS))
                await asyncio.to_thread(server.until, lambda: not is_idle(served, "slow"), 30)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            # Much sooner than its 800 tokens take.
            await asyncio.to_thread(server.until, lambda: is_idle(served, "slow"), 10)

    asyncio.run(main())


def test_many_streams_share_one_client(url: str) -> None:
    async def one(asker: AsyncClient, number: int) -> str:
        return "".join([chunk.text async for chunk in asker.stream("echo", f"number {number}")])

    async def main() -> list[str]:
        async with AsyncClient(url) as asker:
            return await asyncio.gather(*(one(asker, number) for number in range(100)))

    assert asyncio.run(main()) == [f"number {number}" for number in range(100)]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_server_that_is_killed_in_the_middle_is_an_error_at_once(protocol: str) -> None:
    with server.running([ENDPOINTS[2]]) as running, Client(getattr(running, protocol), timeout=60) as asker:
        stream = asker.stream("small", "Hi", **ENDLESS)
        next(stream)
        triton = running.triton
        triton.kill()
        with pytest.raises(client.StreamBroken):
            list(stream)
        psutil.wait_procs([triton], timeout=10)
