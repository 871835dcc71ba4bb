"""What callers of the client see when something goes wrong: an exception that says what, and never a hang."""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fake_triton
from tritonllm import client
from tritonllm.client import AsyncClient, Client

pytestmark = pytest.mark.timeout(60)


def forever(inputs: dict[str, Any]) -> Iterator[Any]:
    """Goes on until the client leaves."""
    for number in itertools.count():
        yield {"text_output": [f"{number} "]}
        yield fake_triton.WAIT


def silent(inputs: dict[str, Any]) -> Iterator[Any]:
    """Never says anything."""
    while True:
        yield fake_triton.WAIT


def after(*items: Any) -> Callable[[dict[str, Any]], Iterator[Any]]:
    """Gives these outputs; an exception among them is raised."""

    def model(inputs: dict[str, Any]) -> Iterator[Any]:
        for item in items:
            if isinstance(item, Exception):
                raise item
            yield item

    return model


@pytest.mark.parametrize(
    ("text", "kind", "field", "message"),
    [
        (
            "[invalid_argument] sampling_parameters.max_tokens: is 9, over the limit 5; ask for less",
            client.InvalidRequest,
            "sampling_parameters.max_tokens",
            "is 9, over the limit 5; ask for less",
        ),
        (
            "[queue_full] 512 requests wait; try again later",
            client.QueueFull,
            "",
            "512 requests wait; try again later",
        ),
        ("[unavailable] the engine restarts", client.Unavailable, "", "the engine restarts"),
        ("[guardrail_failure] no rules", client.GuardrailFailed, "", "no rules"),
        ("[engine_failure] out of memory", client.EngineFailed, "", "out of memory"),
        ("[permission_denied] not for you", client.PermissionDenied, "", "not for you"),
        ("[cancelled] the server stops", client.Cancelled, "", "the server stops"),
        ("[internal] bug", client.ServerFailed, "", "bug"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_the_servers_codes_become_exceptions(
    fake: fake_triton.FakeTriton, streaming: bool, text: str, kind: type, field: str, message: str
) -> None:
    fake.models["chat"] = after(fake_triton.Refused(text))
    with Client(fake.url) as asker, pytest.raises(client.TritonLLMError) as caught:
        list(asker.stream("chat", "Hi")) if streaming else asker.generate("chat", "Hi")
    assert type(caught.value) is kind
    assert (caught.value.field, caught.value.message) == (field, message)


def test_a_full_queue_is_a_kind_of_unavailable() -> None:
    assert issubclass(client.QueueFull, client.Unavailable)
    assert issubclass(client.ServerUnreachable, client.Unavailable)


def test_an_error_may_come_in_the_middle(fake: fake_triton.FakeTriton) -> None:
    fake.models["chat"] = after({"text_output": ["a"]}, fake_triton.Refused("[engine_failure] died"))
    with Client(fake.url) as asker, asker.stream("chat", "Hi") as stream:
        assert next(stream).text == "a"
        with pytest.raises(client.EngineFailed, match="died"):
            next(stream)


def test_an_unknown_model_is_named(fake: fake_triton.FakeTriton) -> None:
    with Client(fake.url) as asker:
        for ask in (lambda: asker.generate("chta", "Hi"), lambda: asker.check("chta", "Hi")):
            with pytest.raises(client.ModelNotFound, match="`chta"):
                ask()


def test_a_failing_guardrail_is_told_apart(fake: fake_triton.FakeTriton) -> None:
    fake.models["chat-guardrail"] = after(fake_triton.Refused("[guardrail_failure] broken"))
    with Client(fake.url) as asker, pytest.raises(client.GuardrailFailed, match="broken"):
        asker.check("chat", "Hi")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "text_input"),
        ({"prompt": ""}, "text_input"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "usr", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": {1}}]}, "messages"),
        ({"prompt": "a", "max_token": 5}, "sampling_parameters.max_token"),
        ({"prompt": "a", "temperature": -1}, "sampling_parameters.temperature"),
        ({"prompt": "half \ud800"}, "text_input"),
        ({"prompt": "a", "stop": "half \ud800"}, "sampling_parameters.stop"),
    ],
)
def test_a_wrong_request_is_never_sent(
    fake: fake_triton.FakeTriton, given: dict[str, Any], field: str
) -> None:
    with Client(fake.url) as asker, pytest.raises(client.InvalidRequest) as caught:
        asker.generate("chat", **given)
    assert caught.value.field == field
    assert fake.asked == []


@pytest.mark.parametrize("url", ["ftp://host:21", "http://", "", "http://host:8000/v2/models/chat"])
def test_a_wrong_url_is_refused(url: str) -> None:
    with pytest.raises(client.InvalidRequest, match="url: must be like localhost:8001"):
        Client(url)


def test_leaving_the_loop_ends_the_request(fake: fake_triton.FakeTriton) -> None:
    fake.models["chat"] = forever
    with Client(fake.url) as asker:
        for chunk in asker.stream("chat", "Hi"):
            assert chunk.text == "0 "
            break
        gc.collect()
        assert fake.left.wait(30)


def test_closing_a_stream_ends_the_request(fake: fake_triton.FakeTriton) -> None:
    fake.models["chat"] = forever
    with Client(fake.url) as asker:
        with asker.stream("chat", "Hi") as stream:
            next(stream)
        assert fake.left.wait(30)
        with pytest.raises(client.Cancelled):
            next(stream)


@pytest.mark.parametrize("what", ["stream", "client"])
def test_another_thread_may_close_what_one_waits_for(fake: fake_triton.FakeTriton, what: str) -> None:
    fake.models["chat"] = silent
    asker = Client(fake.url)
    stream = asker.stream("chat", "Hi")

    def close() -> None:
        fake.until_asked()
        asker.close() if what == "client" else stream.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(client.Cancelled):
        next(stream)
    closer.join()
    asker.close()
    assert fake.left.wait(30)


def test_cancelling_a_task_ends_the_request(fake: fake_triton.FakeTriton) -> None:
    async def main() -> None:
        async with AsyncClient(fake.url) as asker:
            task = asyncio.create_task(asker.generate("chat", "Hi"))
            await asyncio.to_thread(fake.until_asked)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(fake.left.wait, 30)

    fake.models["chat"] = silent
    asyncio.run(main())


def test_breaking_out_of_an_async_loop_ends_the_request(fake: fake_triton.FakeTriton) -> None:
    async def main() -> None:
        async with AsyncClient(fake.url) as asker:
            async for _ in asker.stream("chat", "Hi"):
                break
            assert await asyncio.to_thread(fake.left.wait, 30)

    fake.models["chat"] = forever
    asyncio.run(main())


@pytest.mark.parametrize("model", [silent, forever])
def test_a_request_that_takes_too_long_is_ended(fake: fake_triton.FakeTriton, model: Any) -> None:
    fake.models["chat"] = model
    with Client(fake.url, timeout=30) as asker:
        begun = time.monotonic()
        # Time enough for the request to arrive, also on a busy machine.
        with pytest.raises(client.Timeout, match="within 1 s"):
            list(asker.stream("chat", "Hi", timeout=1))
        assert time.monotonic() - begun < 20
    assert fake.left.wait(30)


def test_a_server_that_dies_in_the_middle_breaks_the_stream(fake: fake_triton.FakeTriton) -> None:
    fake.models["chat"] = after({"text_output": ["a"]}, fake_triton.CUT)
    with Client(fake.url) as asker, asker.stream("chat", "Hi") as stream:
        assert next(stream).text == "a"
        with pytest.raises(client.TritonLLMError) as caught:
            next(stream)
    assert isinstance(caught.value, client.StreamBroken)


def test_a_server_that_dies_before_it_answers_is_unreachable(fake: fake_triton.FakeTriton) -> None:
    fake.models["chat"] = after(fake_triton.CUT)
    with Client(fake.url) as asker, pytest.raises(client.ServerUnreachable):
        asker.generate("chat", "Hi")


def test_an_answer_without_an_end_is_broken(fake: fake_triton.FakeTriton) -> None:
    fake.models["chat"] = after({"text_output": ["a"]})
    with (
        Client(fake.url) as asker,
        pytest.raises(client.StreamBroken, match="before the answer was complete"),
    ):
        list(asker.stream("chat", "Hi"))


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_nobody_at_the_address_is_said_at_once(scheme: str) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # Bound, but nobody listens.
        port = reserved.getsockname()[1]
        with Client(f"{scheme}://127.0.0.1:{port}") as asker:
            for ask in (lambda: asker.generate("chat", "Hi"), lambda: asker.check("chat", "Hi")):
                with pytest.raises(client.ServerUnreachable, match=f"127.0.0.1:{port}"):
                    ask()


@pytest.mark.parametrize(
    ("scheme", "server"), [("grpc", fake_triton.FakeHttp), ("http", fake_triton.FakeGrpc)]
)
def test_the_port_of_the_other_protocol_is_an_error(
    scheme: str, server: type[fake_triton.FakeTriton]
) -> None:
    other = server()
    address = other.url.removeprefix("http://")
    try:
        with (
            Client(f"{scheme}://{address}", timeout=30) as asker,
            pytest.raises((client.ServerUnreachable, client.ServerFailed)),
        ):
            asker.generate("chat", "Hi")
    finally:
        other.stop()


def test_a_closed_client_says_so(fake: fake_triton.FakeTriton) -> None:
    asker = Client(fake.url)
    asker.close()
    with pytest.raises(RuntimeError, match="the client is closed"):
        asker.generate("chat", "Hi")
