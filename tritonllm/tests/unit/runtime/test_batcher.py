"""Requests run together, come and go between steps, and end with the thread that runs them."""

from __future__ import annotations

import functools
import queue
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import transformers

from tritonllm.runtime import answer_text, backend, batcher, causal_model, threads, token_sampling

VOCABULARY = 300
SECONDS = 60
# Of tokens; the test is over before.
LONG = 2000
CONFIG = transformers.LlamaConfig(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
)


class Running:
    """A batcher in its thread, and what it delivers."""

    def __init__(self, max_sequences: int, max_tokens: int) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network: Any = transformers.LlamaForCausalLM(CONFIG).eval()
        self.events: queue.SimpleQueue[list[batcher.Event]] = queue.SimpleQueue()
        self.failed: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.batcher = batcher.Batcher(
            causal_model.CausalModel(self.network),
            max_sequences=max_sequences,
            max_tokens=max_tokens,
            deliver=self.events.put,
            fail=functools.partial(self.failed.put, None),
        )
        self.thread = threads.start("batcher", self.batcher.run)

    def next(self) -> list[batcher.Event]:
        """What the next step has made."""
        return self.events.get(timeout=SECONDS)

    def until(
        self, condition: Callable[[dict[str, list[backend.Update]]], bool]
    ) -> dict[str, list[backend.Update]]:
        """The updates of each request until a condition holds."""
        found: dict[str, list[backend.Update]] = {}
        while not condition(found):
            for request_id, update in self.next():
                found.setdefault(request_id, []).append(update)
        return found

    def finished(self, *ids: str) -> dict[str, list[backend.Update]]:
        return self.until(lambda found: all(each in found and found[each][-1].finished for each in ids))

    def close(self) -> None:
        self.batcher.close()
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running(max_sequences=4, max_tokens=10_000)
    yield made
    made.close()


def request(
    name: str,
    *,
    prompt: Any = (5, 6, 7),
    n: int = 1,
    max_tokens: int = 6,
    stop_tokens: Any = (),
    logprobs: int | None = None,
    **given: Any,
) -> batcher.Request:
    def decode(tokens: list[int]) -> str:
        return "".join(f"{token} " for token in tokens)

    given = {"temperature": 0.0} | given
    choices = [
        batcher.Choice(
            token_sampling.Sampler(
                given,
                choice=choice,
                prompt_tokens=len(prompt),
                stop_tokens=stop_tokens,
                bad_words=[],
                device=torch.device("cpu"),
            ),
            answer_text.AnswerText(decode, prompt),
            list(prompt),
        )
        for choice in range(n)
    ]
    return batcher.Request(name, list(prompt), choices, max_tokens, stop_tokens, False, decode, logprobs)


def texts(updates: list[backend.Update]) -> list[str]:
    return ["".join(parts) for parts in zip(*(update.texts for update in updates), strict=True)]


def test_an_answer_is_that_of_transformers_own_generation(running: Running) -> None:
    running.batcher.submit(request("a", max_tokens=12))
    [text] = texts(running.finished("a")["a"])
    expected = running.network.generate(
        torch.tensor([[5, 6, 7]]), do_sample=False, max_new_tokens=12, eos_token_id=None, pad_token_id=0
    )
    assert text.split() == [str(token) for token in expected[0, 3:].tolist()]


def test_requests_run_together_and_a_shorter_one_leaves_first(running: Running) -> None:
    running.batcher.submit(request("long", max_tokens=LONG))
    running.until(lambda found: "long" in found)
    running.batcher.submit(request("short", prompt=[9, 8], max_tokens=3))
    together = running.until(lambda found: "short" in found and found["short"][-1].finished)
    assert len(together["long"]) >= 2
    assert together["long"][-1].finish_reasons == [None]
    assert together["short"][-1].finish_reasons == ["length"]


def test_every_choice_has_its_own_answer_and_end(running: Running) -> None:
    running.batcher.submit(request("a", n=3, temperature=2.0, seed=1, max_tokens=8))
    updates = running.finished("a")["a"]
    assert len(set(texts(updates))) == 3
    assert updates[-1].finish_reasons == ["length"] * 3
    assert [sum(update.output_tokens[choice] for update in updates) for choice in range(3)] == [8] * 3


def test_a_stop_token_is_counted_and_not_shown(running: Running) -> None:
    running.batcher.submit(request("a", logit_bias={"42": 100.0}, stop_tokens={42}))
    [update] = running.finished("a")["a"]
    assert (update.texts, update.finish_reasons, update.output_tokens) == ([""], ["stop"], [1])


def test_a_request_that_is_aborted_leaves_the_batch(running: Running) -> None:
    for name in ("a", "b"):
        running.batcher.submit(request(name, max_tokens=LONG))
    running.until(lambda found: found.keys() == {"a", "b"})
    running.batcher.abort("a")
    running.batcher.submit(request("after", max_tokens=1))
    running.finished("after")
    assert all(dict(running.next()).keys() == {"b"} for _ in range(5))


def test_a_request_that_is_aborted_while_it_waits_never_runs() -> None:
    running = Running(max_sequences=1, max_tokens=400)
    running.batcher.submit(request("first", max_tokens=20))
    running.batcher.submit(request("waiting"))
    running.batcher.abort("waiting")
    running.batcher.submit(request("last"))
    assert running.finished("first", "last").keys() == {"first", "last"}
    running.close()


@pytest.mark.parametrize(
    ("max_sequences", "max_tokens"), [(2, 400), (16, 50)], ids=["too many answers", "too many tokens"]
)
def test_a_request_waits_until_there_is_room_for_all_of_it(max_sequences: int, max_tokens: int) -> None:
    running = Running(max_sequences, max_tokens)
    # Each takes up to 23 tokens, so that two of them fit into 50.
    for name in ("a", "b", "c"):
        running.batcher.submit(request(name, max_tokens=20))
    before = running.until(lambda found: "a" in found and found["a"][-1].finished)
    assert before.keys() == {"a", "b"}
    running.finished("b", "c")
    running.close()


def test_the_used_share_of_the_cache_is_that_of_the_padded_batch(running: Running) -> None:
    running.batcher.submit(request("a", prompt=range(2, 202), max_tokens=LONG))
    running.batcher.submit(request("b", prompt=[4], max_tokens=LONG))
    running.until(lambda found: {"a", "b"} == found.keys())
    running.next()
    assert 2 * 200 / 10_000 < running.batcher.used <= 2 * (200 + LONG) / 10_000


def test_log_probabilities_add_up(running: Running) -> None:
    running.batcher.submit(request("a", logprobs=2))
    updates = running.finished("a")["a"]
    positions = [position for update in updates for position in (update.logprobs or [[]])[0]]
    assert [len(position) for position in positions] == [2] * 6
    chosen = [max(each["logprob"] for each in position.values()) for position in positions]
    assert updates[-1].cumulative_logprobs == [pytest.approx(sum(chosen))]


def test_a_failure_of_the_model_ends_the_thread_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    running = Running(max_sequences=2, max_tokens=400)

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(running.network, "forward", broken)
    running.batcher.submit(request("a"))
    running.failed.get(timeout=SECONDS)
    running.thread.join(SECONDS)
    assert not running.thread.is_alive()
    assert "illegal memory access" in str(running.batcher.failure)
