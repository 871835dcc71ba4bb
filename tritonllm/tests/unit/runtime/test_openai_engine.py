"""An upstream over a real connection: what it is asked, and what callers are told in each way that it can fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tritonllm import errors, sampling
from tritonllm.ipc import names
from tritonllm.runtime import backend, openai_engine

KEY = "sk-very-secret"
HI = [{"role": "user", "content": "Hi"}]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def chunk(content: str = "", reason: str | None = None, index: int = 0, **delta: Any) -> bytes:
    choice = {"index": index, "delta": {"content": content} | delta, "finish_reason": reason}
    return event({"choices": [choice]})


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


USAGE = event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}})
DONE = b"data: [DONE]\n\n"
WHOLE = HEAD + chunk("Hel") + chunk("lo") + chunk(reason="stop") + USAGE + DONE


def refusal(status: int, body: Any = "", **headers: str) -> bytes:
    content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Reason", f"Content-Length: {len(content)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


class Upstream:
    """A server that says what the test wants it to.

    Attributes:
        answer: bytes for each request; then the connection is closed, unless `open` is set.
        asked: the line, headers and body of each request.
        left: set when a client has closed its connection.
    """

    def __init__(self) -> None:
        self.answer = WHOLE
        self.open = False
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(1)
        if head == b"\x16":
            # TLS; what follows is no line.
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()
            return
        head += await reader.readuntil(b"\r\n\r\n")
        line, *headers = head.decode().strip().split("\r\n")
        found = {name.lower(): value for name, value in (each.split(": ", 1) for each in headers)}
        self.asked.append((line, found, json.loads(await reader.readexactly(int(found["content-length"])))))
        writer.write(self.answer)
        with contextlib.suppress(OSError):
            await writer.drain()
        if self.open:
            await reader.read()
            self.left.set()
        writer.close()


class Asked:
    """A request and what came back."""

    def __init__(self) -> None:
        self.updates: list[backend.Update] = []
        self.error: errors.RequestError | None = None
        self.ended = asyncio.Event()

    def update(self, update: backend.Update) -> None:
        assert not self.ended.is_set()
        self.updates.append(update)
        if update.finished:
            self.ended.set()

    def fail(self, error: errors.RequestError) -> None:
        assert not self.ended.is_set()
        self.error = error
        self.ended.set()

    @property
    def texts(self) -> list[str]:
        return ["".join(parts) for parts in zip(*(each.texts for each in self.updates), strict=True)]

    @property
    def tokens(self) -> tuple[int, list[int]]:
        counts = zip(*(each.output_tokens for each in self.updates), strict=True)
        return self.updates[-1].input_tokens, [sum(each) for each in counts]


class Engine:
    """A backend in front of the upstream."""

    def __init__(self, upstream: Upstream, started: openai_engine.OpenAIBackend) -> None:
        self.upstream = upstream
        self.backend = started

    async def ask(
        self, messages: list[dict[str, Any]] | None = HI, text: str | None = None, **more: Any
    ) -> Asked:
        asked = self.submit(messages, text, **more)
        async with asyncio.timeout(60):
            await asked.ended.wait()
        return asked

    def submit(
        self,
        messages: list[dict[str, Any]] | None = HI,
        text: str | None = None,
        chat: dict[str, Any] | None = None,
        name: str = "1",
        **parameters: Any,
    ) -> Asked:
        asked = Asked()
        wanted = sampling.SamplingParameters(**parameters)
        generation = backend.Generation(name, text, messages, wanted, chat or {})
        self.backend.submit(generation, asked.update, asked.fail)
        return asked


@contextlib.asynccontextmanager
async def engine(url: str | None = None, **args: Any) -> AsyncIterator[Engine]:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    started = openai_engine.OpenAIBackend(
        {"url": url or f"http://127.0.0.1:{port}/v1", "model": "theirs"} | args
    )
    try:
        await started.start()
        try:
            yield Engine(upstream, started)
            assert started.stats().running == 0
        finally:
            await started.close()
    finally:
        server.close()


def run(scenario: Callable[[Engine], Awaitable[Any]], **args: Any) -> Any:
    async def main() -> Any:
        async with engine(**args) as made:
            return await scenario(made)

    return asyncio.run(main())


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv(names.UPSTREAM_KEYS, str(tmp_path))
    (tmp_path / "team-a").write_text(f"{KEY}\n")
    return tmp_path


def test_a_conversation_is_sent_as_it_is_and_the_answer_comes_in_pieces() -> None:
    async def scenario(made: Engine) -> None:
        asked = await made.ask(max_tokens=9, temperature=0.5, stop=["x"], seed=1)
        assert asked.texts == ["Hello"]
        assert len(asked.updates) == 3
        assert asked.updates[-1].finish_reasons == ["stop"]
        # Two chunks have text; the upstream says that there were five tokens.
        assert asked.tokens == (7, [5])
        [(line, headers, body)] = made.upstream.asked
        assert line == "POST /v1/chat/completions HTTP/1.1"
        assert "authorization" not in headers
        assert body == {
            "model": "theirs",
            "messages": HI,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": 9,
            "temperature": 0.5,
            "stop": ["x"],
            "seed": 1,
        }

    run(scenario)


def test_a_text_is_sent_to_completions() -> None:
    async def scenario(made: Engine) -> None:
        choice = {"index": 0, "text": "Hello", "finish_reason": "length"}
        made.upstream.answer = HEAD + event({"choices": [choice]}) + DONE
        asked = await made.ask(None, "Once", max_tokens=3)
        assert asked.texts == ["Hello"]
        assert asked.updates[-1].finish_reasons == ["length"]
        [(line, _, body)] = made.upstream.asked
        assert line == "POST /v1/completions HTTP/1.1"
        assert (body["prompt"], body["max_tokens"]) == ("Once", 3)

    run(scenario)


def test_choices_tools_reasoning_and_log_probabilities_are_read() -> None:
    async def scenario(made: Engine) -> None:
        top = [{"token": "b", "logprob": -0.1}, {"token": "a", "logprob": -2.0}]
        token = {"token": "a", "logprob": -2.0, "top_logprobs": top}
        with_logprobs = {
            "index": 0,
            "delta": {"content": "a"},
            "logprobs": {"content": [token]},
            "finish_reason": None,
        }
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
        made.upstream.answer = (
            HEAD
            + event({"choices": []})
            + chunk(reasoning_content="hm", index=1)
            + event({"choices": [with_logprobs]})
            + chunk(reason="stop")
            + chunk(index=1, tool_calls=[call])
            + chunk(index=1, tool_calls=[{"index": 0, "function": {"arguments": "{}"}}])
            + chunk(reason="tool_calls", index=1)
            + DONE
        )
        tool = {"type": "function", "function": {"name": "f"}}
        asked = await made.ask(n=2, logprobs=2, chat={"tools": [tool], "tool_choice": "auto"})
        assert asked.texts == ["a", ""]
        assert asked.updates[-1].finish_reasons == ["stop", "tool_calls"]
        assert [each.reasoning for each in asked.updates if each.reasoning] == [["", "hm"]]
        [logprobs] = [each.logprobs for each in asked.updates if each.logprobs]
        assert logprobs[0] == [
            {
                -1: {"logprob": -2.0, "rank": 2, "decoded_token": "a"},
                -2: {"logprob": -0.1, "rank": 1, "decoded_token": "b"},
            }
        ]
        calls = [each.tool_calls[1] for each in asked.updates if each.tool_calls]
        assert calls == [[call], [{"index": 0, "function": {"arguments": "{}"}}]]
        [(_, _, body)] = made.upstream.asked
        assert (body["n"], body["logprobs"], body["top_logprobs"]) == (2, True, 2)
        assert (body["tools"], body["tool_choice"]) == ([tool], "auto")

    run(scenario)


def test_hidden_reasoning_is_left_out_with_all_that_would_tell_it() -> None:
    async def scenario(made: Engine) -> None:
        token = {"token": "secret", "logprob": -1.0, "top_logprobs": []}
        choice = {"index": 0, "delta": {"reasoning": "secret"}, "logprobs": {"content": [token]}}
        made.upstream.answer = HEAD + event({"choices": [choice]}) + chunk("a", "stop") + DONE
        asked = await made.ask(logprobs=0, chat={"include_reasoning": False})
        assert asked.texts == ["a"]
        assert not any(each.reasoning or each.logprobs for each in asked.updates)

    run(scenario)


def test_without_counts_of_the_upstream_chunks_are_counted_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(made: Engine) -> None:
        made.upstream.answer = HEAD + chunk("a") + chunk("b") + chunk(reason="stop") + DONE
        for name in "12":
            asked = await made.ask(name=name)
            assert asked.tokens == (0, [2])

    run(scenario)
    assert [each.message for each in caplog.records if "does not tell the tokens" in each.message] != []
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"top_k": 3}, "sampling_parameters.top_k"),
        ({"structured_outputs": {"regex": "a"}}, "sampling_parameters.structured_outputs"),
        ({"chat": {"chat_template_kwargs": {"a": 1}}}, "chat_options.chat_template_kwargs"),
    ],
)
def test_what_only_vllm_has_is_refused_unless_the_upstream_is_one(
    parameters: dict[str, Any], field: str
) -> None:
    async def refused(made: Engine) -> None:
        asked = await made.ask(**parameters)
        assert asked.error is not None
        assert (asked.error.code, asked.error.field) == ("invalid_argument", field)
        assert made.upstream.asked == []

    async def sent(made: Engine) -> None:
        assert (await made.ask(**parameters)).texts == ["Hello"]
        [(_, _, body)] = made.upstream.asked
        for name, value in (parameters.get("chat") or parameters).items():
            assert body[name] == value

    run(refused)
    run(sent, api="vllm")


def test_a_json_schema_is_asked_for_in_openais_words() -> None:
    async def scenario(made: Engine) -> None:
        schema = {"type": "object"}
        await made.ask(structured_outputs={"json": schema})
        [(_, _, body)] = made.upstream.asked
        described = {"name": "answer", "schema": schema, "strict": True}
        assert body["response_format"] == {"type": "json_schema", "json_schema": described}

    run(scenario)


def test_the_key_is_read_for_each_request(keys: Path) -> None:
    async def scenario(made: Engine) -> None:
        await made.ask()
        (keys / "team-a").write_text("sk-new")
        await made.ask()
        sent = [headers["authorization"] for _, headers, _ in made.upstream.asked]
        assert sent == [f"Bearer {KEY}", "Bearer sk-new"]
        (keys / "team-a").unlink()
        asked = await made.ask()
        assert asked.error is not None
        assert str(asked.error).startswith("[unavailable] the API key of the upstream can't be read")
        assert len(made.upstream.asked) == 2

    run(scenario, api_key_name="team-a")


@pytest.mark.parametrize(
    "content",
    ["", "  \n", f"{KEY}\n{KEY}", f"{KEY} x", "schlüssel"],
    ids=["empty", "blank", "two", "spaces", "not-ascii"],
)
def test_an_engine_without_a_usable_key_does_not_load_and_shows_nothing_of_it(
    keys: Path, content: str
) -> None:
    (keys / "team-a").write_text(content)
    with pytest.raises(ValueError, match="has something else than one key") as caught:
        run(lambda made: made.ask(), api_key_name="team-a")
    assert KEY not in str(caught.value)


def test_an_engine_whose_key_is_not_there_does_not_load(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="team-b can't be read: No such file"):
        run(lambda made: made.ask(), api_key_name="team-b")
    monkeypatch.delenv(names.UPSTREAM_KEYS)
    with pytest.raises(ValueError, match="--upstream-keys DIR"):
        run(lambda made: made.ask(), api_key_name="team-a")


ECHOED = {
    "error": {"message": f"Incorrect API key provided: {KEY}", "type": "auth", "code": "invalid_api_key"}
}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refusal(401, ECHOED), "[unavailable] the upstream refuses the API key of this endpoint"),
        (refusal(403, ECHOED), "[unavailable] the upstream refuses the API key of this endpoint"),
        (refusal(404), "[unavailable] the upstream has no such model or no such route"),
        (
            refusal(429, Retry_After="7"),
            "[queue_full] the upstream is overloaded or limits this endpoint's requests; try again in 7 s",
        ),
        (
            refusal(429, Retry_After="soon\u0020enough"),
            "[queue_full] the upstream is overloaded or limits this endpoint's requests; try again later",
        ),
        (
            refusal(429, {"error": {"code": "insufficient_quota"}}),
            "[unavailable] the upstream has no quota left for this endpoint",
        ),
        (refusal(500, "oops"), "[engine_failure] the upstream failed on this request (status 500)"),
        (refusal(503), "[unavailable] the upstream is not available at the moment (status 503)"),
        (refusal(504), "[unavailable] the upstream has not generated the answer in its own time limit"),
        (
            refusal(302, Location="https://evil.example"),
            "[unavailable] the upstream redirects to another address",
        ),
        (
            refusal(400, {"error": {"message": "too long", "param": "messages"}}),
            "[invalid_argument] messages: the upstream refuses the request: too long",
        ),
        (
            refusal(422, {"detail": [{"msg": "bad"}]}),
            '[invalid_argument] the upstream refuses the request: [{"msg": "bad"}]',
        ),
        (
            refusal(400, {"error": {"message": f"no {KEY}", "param": "top_p"}}),
            "[invalid_argument] sampling_parameters.top_p: the upstream refuses the request: no [API key]",
        ),
        (refusal(400, "[" * 100_000), "[invalid_argument] the upstream refuses the request: [["),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nHi",
            "[engine_failure] the upstream did not answer with a stream of events, but with text/html",
        ),
        (b"", "[unavailable] the upstream closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH\r\n", "[unavailable] the upstream can't be reached: it does not answer with HTTP"),
        (
            HEAD + chunk("Hel"),
            "[engine_failure] the upstream ended the stream before the answer was complete",
        ),
        (
            HEAD.replace(b"Connection: close", b"Transfer-Encoding: chunked") + b"400\r\n" + chunk("Hel"),
            "[engine_failure] the upstream closed the connection before the answer was complete",
        ),
        (
            HEAD + chunk("Hel") + event({"error": {"message": f"out of memory {KEY}"}}) + DONE,
            "[engine_failure] the upstream failed before the answer was complete: out of memory [API key]",
        ),
        (HEAD + b"data: {nonsense\n\n", "[engine_failure] the upstream sent what is no chunk of an answer"),
        (HEAD + event({"choices": [{"index": -1}]}), "[engine_failure] the upstream sent what is no chunk"),
        (HEAD + event({"choices": [{"index": 1}]}), "[engine_failure] the upstream sent the choice 1"),
        (HEAD + chunk(reason="bored"), "[engine_failure] the upstream ended the answer with a finish reason"),
        (
            HEAD + b"data: " + b"x" * (17 << 20),
            "[engine_failure] the upstream sent no answer: a line has more",
        ),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_each_way_to_fail_has_a_sentence_and_none_shows_the_key(
    keys: Path, caplog: pytest.LogCaptureFixture, answer: bytes, said: str
) -> None:
    caplog.set_level(logging.DEBUG)

    async def scenario(made: Engine) -> None:
        made.upstream.answer = answer
        asked = await made.ask()
        assert asked.error is not None
        assert str(asked.error).startswith(said)
        assert KEY not in str(asked.error)
        assert len(made.upstream.asked) == 1

    run(scenario, api_key_name="team-a")
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1/v1", "the upstream can't be reached: "),
        ("http://nowhere.invalid/v1", "the upstream can't be reached: its name can't be resolved"),
    ],
)
def test_an_upstream_that_is_not_there_fails_requests_and_not_the_engine(url: str, said: str) -> None:
    async def scenario(made: Engine) -> None:
        asked = await made.ask()
        assert str(asked.error).startswith(f"[unavailable] {said}")
        await made.backend.check()

    run(scenario, url=url)


def test_an_upstream_without_tls_is_told_from_one_that_is_away() -> None:
    async def scenario(made: Engine) -> None:
        port = made.backend._args.url.rpartition(":")[2]
        async with engine(url=f"https://127.0.0.1:{port}") as secure:
            asked = await secure.ask()
            assert "its certificate is not valid for this pod, or it has no TLS" in str(asked.error)

    run(scenario)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            b"",
            "[unavailable] the upstream did not accept the connection within 10 s, or has not answered for 1 s",
        ),
        (HEAD + chunk("Hel"), "[engine_failure] the upstream has sent nothing for 1 s"),
    ],
)
def test_a_silent_upstream_fails_the_request_in_time(answer: bytes, said: str) -> None:
    async def scenario(made: Engine) -> None:
        made.upstream.answer, made.upstream.open = answer, True
        assert str((await made.ask()).error).startswith(said)

    run(scenario, idle_timeout_seconds=1)


def test_a_request_that_is_cancelled_closes_the_connection_of_the_upstream() -> None:
    async def scenario(made: Engine) -> None:
        made.upstream.answer, made.upstream.open = HEAD + chunk("Hel"), True
        asked = made.submit()
        async with asyncio.timeout(60):
            while not asked.updates:  # noqa: ASYNC110
                await asyncio.sleep(0)
            made.backend.abort("1")
            await made.upstream.left.wait()
        assert not asked.ended.is_set()

    run(scenario)


def test_an_engine_that_ends_leaves_no_connection() -> None:
    async def scenario() -> None:
        async with engine() as made:
            made.upstream.answer, made.upstream.open = HEAD + chunk("Hel"), True
            asked = made.submit()
            async with asyncio.timeout(60):
                while not asked.updates:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                await made.backend.close()
                await made.upstream.left.wait()

    asyncio.run(scenario())


def test_only_as_many_requests_as_the_endpoint_may_send_are_sent_at_once() -> None:
    async def scenario(made: Engine) -> None:
        made.upstream.answer, made.upstream.open = HEAD + chunk("Hel"), True
        asked = [made.submit(name=str(number)) for number in range(3)]
        async with asyncio.timeout(60):
            while sum(bool(each.updates) for each in asked) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert made.backend.stats().running == 2
        assert made.backend.stats().waiting == 1
        assert len(made.upstream.asked) == 2
        for number in range(3):
            made.backend.abort(str(number))

    run(scenario, max_num_seqs=2)


def test_adapters_are_refused_because_they_are_the_upstreams() -> None:
    async def scenario(made: Engine) -> None:
        with pytest.raises(backend.AdapterRefused, match="serves no adapters"):
            await made.backend.add_adapter(1, "a", "/a")

    run(scenario)
