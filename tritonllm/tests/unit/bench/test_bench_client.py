import asyncio
import json
import random
import urllib.parse
from collections.abc import Awaitable, Callable

import pytest

import client
from answer import Answer, Failure

TRITON = client.Target("ours", "triton", "http://127.0.0.1:1/v2/models/tiny/generate_stream")
OPENAI = client.Target("theirs", "openai", "http://127.0.0.1:1/v1/completions", model="tiny")
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(event: str) -> bytes:
    data = f"data: {event}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


def answered(*received: bytes) -> Answer:
    async def receive() -> Answer:
        answer = Answer()
        for data in received:
            answer.data_received(data)
        answer.connection_lost(None)
        await answer.done
        return answer

    return asyncio.run(receive())


def test_texts_are_counted_and_events_without_text_are_not() -> None:
    answer = answered(
        HEAD,
        chunk('{"text_output":"dada"}'),
        chunk('{"text_output":" dete"}') + chunk('{"text_output":""}'),
        chunk('{"finish_reason":"length","text_output":""}'),
        b"0\r\n\r\n",
    )
    assert len(answer.times) == 2


def test_answers_of_openai_end_with_done() -> None:
    answer = answered(
        HEAD + chunk('{"choices":[{"text":"dada","finish_reason":null}],"error":null}'),
        chunk('{"choices":[{"text":" dete","finish_reason":"length"}]}'),
        chunk("[DONE]"),
    )
    assert len(answer.times) == 2


def test_an_answer_cut_anywhere_is_read_the_same() -> None:
    whole = HEAD + chunk('{"text_output":"dada"}') + chunk('{"finish_reason":"length","text_output":" dete"}')
    for cut in range(len(whole)):
        assert len(answered(whole[:cut], whole[cut:]).times) == 2


@pytest.mark.parametrize(
    ("received", "message"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\nno such model", "no finish reason: .*no such model"),
        (HEAD + chunk('{"error":"[engine_failure] it died"}'), r"an error: .*\[engine_failure\] it died"),
        (HEAD + chunk('{"text_output":"dada"}'), "no finish reason"),
        (HEAD + chunk('{"text_output":"dada","finish_reason":"timeout"}'), "finish reason 'timeout'"),
        (b"", "no finish reason"),
    ],
)
def test_an_answer_that_is_not_complete_is_a_failure_with_its_reason(received: bytes, message: str) -> None:
    with pytest.raises(Failure, match=message):
        answered(received)


@pytest.mark.parametrize(("target", "field"), [(TRITON, "text_input"), (OPENAI, "prompt")])
def test_a_request_asks_for_a_stream_of_exactly_so_many_tokens(target: client.Target, field: str) -> None:
    head, _, content = target.request("dada dete", 64).partition(b"\r\n\r\n")
    body = json.loads(content)
    assert head.startswith(f"POST {urllib.parse.urlsplit(target.url).path} HTTP/1.1".encode())
    assert f"Content-Length: {len(content)}".encode() in head
    assert (body[field], body["stream"], body["max_tokens"], body["ignore_eos"]) == (
        "dada dete",
        True,
        64,
        True,
    )


@pytest.mark.parametrize(("streams", "processes"), [(1, 4), (8, 3), (512, 6), (4, 4)])
def test_shares_of_a_load_add_up_to_it(streams: int, processes: int) -> None:
    shares = client.Load(streams, 4 * streams, 64, ["dada"]).split(processes)
    assert sum(share.streams for share in shares) == streams
    assert sum(share.requests for share in shares) == 4 * streams
    assert len(shares) == min(streams, processes)
    assert max(share.streams for share in shares) - min(share.streams for share in shares) <= 1


async def measured(
    answer: Callable[[asyncio.StreamWriter], Awaitable[None]], load: client.Load
) -> client.Sample:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await answer(writer)
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        target = client.Target("ours", "triton", f"http://127.0.0.1:{port}/v2/models/tiny/generate_stream")
        return await client.measure(target, load, random.Random(0))


def test_a_measurement_sends_every_request_and_at_most_so_many_at_a_time() -> None:
    open_now, most = 0, 0

    async def answer(writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        writer.write(HEAD + chunk('{"text_output":"dada"}'))
        await asyncio.sleep(0)
        writer.write(chunk('{"text_output":" dete","finish_reason":"length"}'))
        open_now -= 1

    sample = asyncio.run(measured(answer, client.Load(3, 10, 2, ["dada"])))
    assert (sample.answers, sample.texts, most) == (10, 20, 3)
    assert (len(sample.first_texts), len(sample.gaps)) == (10, 10)


def test_a_request_that_fails_ends_the_measurement_with_the_servers_name() -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk('{"error":"[unavailable] not loaded"}'))

    with pytest.raises(Failure, match=r"^ours at .*\[unavailable\] not loaded"):
        asyncio.run(measured(answer, client.Load(1, 10, 2, ["dada"])))
