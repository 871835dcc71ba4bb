"""What callers of the client get back, over both protocols, from a server that behaves."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import fake_triton
from tritonllm import client, sampling
from tritonllm.client import AsyncClient, Client, Verdict

pytestmark = pytest.mark.timeout(60)


def test_an_answer_comes_whole(fake: fake_triton.FakeTriton) -> None:
    fake.models["chat"] = fake_triton.say("Hel", "lo")
    with Client(fake.url) as asker:
        answer = asker.generate("chat", "Hi")
    assert (answer.text, answer.finish_reason) == ("Hello", "stop")
    assert (answer.input_tokens, answer.output_tokens, answer.verdicts) == (3, 2, ())
    assert [inputs["text_input"] for inputs in fake.asked] == ["Hi"]


def test_only_http_streams_what_is_wanted_whole(fake: fake_triton.FakeTriton) -> None:
    fake.models["chat"] = fake_triton.say("a")
    with Client(fake.url) as asker:
        asker.generate("chat", "Hi")
    # Triton's HTTP sees that a client left only while it writes.
    assert fake.asked[0]["stream"] is fake.url.startswith("http")


def test_an_answer_comes_in_pieces(fake: fake_triton.FakeTriton) -> None:
    fake.models["chat"] = fake_triton.say("grün", "", "🦆", "\n\n", "data: x")
    with Client(fake.url) as asker:
        stream = asker.stream("chat", "Hi")
        pieces = [chunk.text for chunk in stream]
    assert pieces == ["grün", "🦆", "\n\n", "data: x"]
    assert stream.answer.text == "grün🦆\n\ndata: x"
    assert fake.asked[0]["stream"] is True


def test_the_answer_is_not_there_before_the_end(fake: fake_triton.FakeTriton) -> None:
    fake.models["chat"] = fake_triton.say("a", "b")
    with Client(fake.url) as asker, asker.stream("chat", "Hi") as stream:
        next(stream)
        with pytest.raises(RuntimeError, match="read to its end"):
            _ = stream.answer


def test_an_answer_may_be_empty(fake: fake_triton.FakeTriton) -> None:
    verdict = {"rule": "no-secrets", "action": "Block", "direction": "input", "count": 1}
    fake.models["chat"] = fake_triton.say(
        "", finish_reason=["content_filter"], guardrail=[json.dumps([verdict])]
    )
    with Client(fake.url) as asker:
        stream = asker.stream("chat", "Hi")
        assert list(stream) == []
    assert stream.answer.text == ""
    assert stream.answer.finish_reason == "content_filter"
    assert stream.answer.verdicts == (Verdict("no-secrets", "Block", "input", 1),)


def test_each_choice_has_its_own_pieces(fake: fake_triton.FakeTriton) -> None:
    def two(inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"text_output": ["a", "x"]}
        yield {
            "text_output": ["", "y"],
            "finish_reason": ["stop", "length"],
            "num_input_tokens": [1],
            "num_output_tokens": [1, 2],
            "guardrail": ["[]"],
        }

    fake.models["chat"] = two
    with Client(fake.url) as asker:
        stream = asker.stream("chat", "Hi", n=2)
        assert [(chunk.index, chunk.text) for chunk in stream] == [(0, "a"), (1, "x"), (1, "y")]
    assert [(choice.text, choice.finish_reason) for choice in stream.answer.choices] == [
        ("a", "stop"),
        ("xy", "length"),
    ]
    assert stream.answer.output_tokens == 3


@pytest.mark.parametrize(
    "given",
    [
        {"max_tokens": 5, "temperature": 0.5, "stop": ["\n"]},
        {"sampling": sampling.SamplingParameters(max_tokens=5, temperature=0.5, stop=["\n"])},
    ],
)
def test_sampling_parameters_arrive(fake: fake_triton.FakeTriton, given: dict[str, Any]) -> None:
    fake.models["chat"] = fake_triton.say("a")
    with Client(fake.url) as asker:
        asker.generate("chat", "Hi", **given)
    sent = json.loads(fake.asked[0]["sampling_parameters"])
    assert sent == {"max_tokens": 5, "temperature": 0.5, "stop": ["\n"]}


def test_a_conversation_arrives(fake: fake_triton.FakeTriton) -> None:
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hallo, schöne Welt"}]
    fake.models["chat"] = fake_triton.say("a")
    with Client(fake.url) as asker:
        asker.generate("chat", messages=turns)
    assert json.loads(fake.asked[0]["messages"]) == turns
    assert "text_input" not in fake.asked[0]


def test_log_probabilities_are_asked_for_and_collected(fake: fake_triton.FakeTriton) -> None:
    fake.models["chat"] = fake_triton.say("ab", logprobs=[json.dumps([{"1": -0.5}, {"2": -0.25}])])
    with Client(fake.url) as asker:
        answer = asker.generate("chat", "Hi", logprobs=1)
    assert fake.asked[0]["return_logprobs"] is True
    assert answer.choices[0].logprobs == ({"1": -0.5}, {"2": -0.25})


def test_a_text_is_checked_by_the_guardrail_alone(fake: fake_triton.FakeTriton) -> None:
    def moderate(inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        verdict = {"rule": "language", "action": "Mask", "direction": "output", "count": 2}
        yield {"text_output": ["[REDACTED]"], "blocked": [False], "guardrail": [json.dumps([verdict])]}

    fake.models["chat-guardrail"] = moderate
    with Client(fake.url) as asker:
        result = asker.check("chat", "damn", direction="output")
    assert result == client.Moderation("[REDACTED]", False, (Verdict("language", "Mask", "output", 2),))
    assert fake.asked == [{"text_input": "damn", "direction": "output"}]


def test_a_prompt_may_be_longer_than_grpc_allows_by_default(fake: fake_triton.FakeTriton) -> None:
    def echo(inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from fake_triton.say(inputs["text_input"])(inputs)

    fake.models["chat"] = echo
    prompt = "x" * 3_900_000  # The server of this test keeps gRPC's limit on what it receives.
    with Client(fake.url) as asker:
        assert len(asker.generate("chat", prompt).text) == len(prompt)
        fake.models["chat"] = fake_triton.say(*["y" * 1_000_000] * 6)
        assert len(asker.generate("chat", "Hi").text) == 6_000_000


def test_many_streams_run_at_once_over_one_client(fake: fake_triton.FakeTriton) -> None:
    everybody = threading.Barrier(50, timeout=30)

    def meet(inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"text_output": [inputs["text_input"]]}
        everybody.wait()
        yield from fake_triton.say("!")(inputs)

    async def ask(asker: AsyncClient, number: int) -> str:
        return "".join([chunk.text async for chunk in asker.stream("chat", str(number))])

    async def main() -> list[str]:
        async with AsyncClient(fake.url) as asker:
            return await asyncio.gather(*(ask(asker, number) for number in range(50)))

    fake.models["chat"] = meet
    assert asyncio.run(main()) == [f"{number}!" for number in range(50)]


def test_threads_share_a_client(fake: fake_triton.FakeTriton) -> None:
    everybody = threading.Barrier(8, timeout=30)

    def meet(inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        everybody.wait()
        yield from fake_triton.say(inputs["text_input"])(inputs)

    fake.models["chat"] = meet
    found: list[str] = []
    with Client(fake.url) as asker:
        threads = [
            threading.Thread(
                target=lambda number=number: found.append(asker.generate("chat", f"{number}").text)
            )
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == [str(number) for number in range(8)]


def test_an_async_client_lives_beside_a_synchronous_one(
    fake: fake_triton.FakeTriton, caplog: pytest.LogCaptureFixture
) -> None:
    fake.models["chat"] = fake_triton.say("a", "b", "c")

    async def main(asker: Client) -> None:
        async with AsyncClient(fake.url) as other:
            for _ in range(20):
                await asyncio.gather(
                    other.generate("chat", "Hi"), asyncio.to_thread(asker.generate, "chat", "Hi")
                )

    with Client(fake.url) as asker:
        asyncio.run(main(asker))
    assert len(fake.asked) == 40
    assert caplog.records == []


def test_a_client_that_is_never_closed_leaves_quietly(fake: fake_triton.FakeTriton) -> None:
    fake.models["chat"] = fake_triton.say("Hel", "lo")
    code = (
        "from tritonllm.client import Client\n"
        f"asker = Client({fake.url!r})\n"
        "stream = asker.stream('chat', 'Hi')\n"
        "print(next(stream).text)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert (result.returncode, result.stdout, result.stderr) == (0, "Hel\n", "")
