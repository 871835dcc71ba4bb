"""Every request gets exactly one final response, whatever happens to it; the fakes check that nothing follows it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fake_backend_utils
import virtual_time
from tritonllm import guardrails
from unit.runtime import pipelines

MASK = {"name": "bird", "banned": {"phrases": ["falcon"]}, "action": "Mask"}
BLOCK = {"name": "secret", "banned": {"phrases": ["launch codes"]}, "action": "Block"}


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    opened: list[Any] = []

    def made(**options: Any) -> pipelines.Pipeline:
        manager = pipelines.pipeline(monkeypatch, tmp_path, **options)
        opened.append(manager)
        return manager.__enter__()

    yield made
    for manager in opened:
        manager.__exit__(None, None, None)


def test_a_token_is_sent_as_it_comes(make: Any) -> None:
    pipeline = make()
    client = pipeline.ask()
    pipeline.run()
    [request] = pipeline.live
    for text in ("The ", "sea ", "is "):
        request.token(text)
        pipeline.run()
    pipeline.engine.backend.finish(request, "blue.")
    pipeline.run()
    assert [response.values()["text_output"] for response in client.sent] == [
        ["The "],
        ["sea "],
        ["is "],
        ["blue."],
    ]
    assert (client.finish_reason, client.closed) == ("stop", True)
    assert pipeline.running == pipeline.waiting == 0


def test_what_comes_while_a_request_waits_to_be_sent_is_sent_together(make: Any) -> None:
    pipeline = make()
    client = pipeline.ask()
    pipeline.run()
    [request] = pipeline.live
    for text in ("The ", "sea ", "is "):
        request.token(text)
    pipeline.run()
    assert [response.values()["text_output"] for response in client.sent] == [["The sea is "]]


def test_without_streaming_there_is_one_response(make: Any) -> None:
    pipeline = make(output=[MASK])
    client = pipeline.ask(stream=False)
    pipeline.run()
    [request] = pipeline.live
    request.token("a fal")
    pipeline.run()
    pipeline.engine.backend.finish(request, "con")
    pipeline.run()
    assert len(client.sent) == 1
    assert client.text == "a [REDACTED]"


def test_a_blocked_prompt_never_reaches_the_engine(make: Any) -> None:
    pipeline = make(input=[BLOCK])
    client = pipeline.ask("the launch codes")
    pipeline.run()
    assert client.finish_reason == "content_filter"
    assert pipeline.live == []


def test_a_long_prompt_is_screened_as_a_short_one_is(make: Any) -> None:
    pipeline = make(input=[BLOCK])
    client = pipeline.ask("so on " * 1000 + "launch codes")
    pipeline.run()
    assert client.finish_reason == "content_filter"


def test_a_deadline_that_passes_while_rules_are_applied_ends_the_request_once(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make(input=[BLOCK], timeout=1)
    monkeypatch.setattr(virtual_time, "EXECUTOR_SECONDS", 3.0)
    client = pipeline.ask("so on " * 1000)
    pipeline.run(10)
    assert client.finish_reason == "timeout"
    assert pipeline.live == []


def test_an_answer_that_is_blocked_stops_the_engine(make: Any) -> None:
    pipeline = make(output=[BLOCK])
    client = pipeline.ask()
    pipeline.run()
    for text in ("Here: ", "launch ", "codes ", "are "):
        pipeline.live[0].token(text)
    pipeline.run()
    assert (client.text, client.finish_reason) == ("Here: ", "content_filter")
    assert len(pipeline.engine.backend.aborted) == 1
    assert pipeline.running == 0


def test_a_guardrail_that_fails_in_the_middle_of_an_answer_ends_it_and_stops_the_engine_at_once(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make(output=[MASK], failurePolicy="Closed")
    client = pipeline.ask()
    pipeline.run()
    pipeline.live[0].token("word ")
    pipeline.run()

    def fails(*_: Any) -> str:
        raise RuntimeError("broken")

    monkeypatch.setattr(guardrails.Stream, "feed", fails)
    pipeline.live[0].token("word ")
    pipeline.run(0.001)
    assert client.error.startswith("[guardrail_failure]")
    assert client.closed
    assert len(pipeline.engine.backend.aborted) == 1
    assert pipeline.summaries[0].outcome == "guardrail_failure"


def test_an_engine_that_dies_under_64_streams_gives_each_client_its_error_at_once(make: Any) -> None:
    pipeline = make()
    clients = [pipeline.ask() for _ in range(64)]
    pipeline.run()
    for request in pipeline.live:
        request.token("word ")
    pipeline.run()
    pipeline.engine.die()
    pipeline.run(0.001)
    assert {client.error.split("]")[0] for client in clients} == {"[engine_failure"}
    assert all(client.closed for client in clients)
    assert pipeline.running == 0
    # Its iterators are never touched again.
    assert pipeline.leases.abandoned
    assert pipeline.leases.finished == []


def test_after_a_death_requests_go_to_the_engine_that_was_loaded_instead(make: Any) -> None:
    pipeline = make()
    pipeline.ask()
    pipeline.run()
    pipeline.engine.die()
    pipeline.run()
    pipeline.load()
    client = pipeline.ask()
    pipeline.run()
    pipeline.engine.backend.finish(pipeline.live[0], "again")
    pipeline.run()
    assert client.text == "again"


def test_a_reloaded_engine_is_found_within_a_second_and_the_old_one_ends_what_it_has(make: Any) -> None:
    pipeline = make()
    first = pipeline.ask()
    pipeline.run()
    old = pipeline.engine
    pipeline.load()
    pipeline.run(1.1)
    second = pipeline.ask()
    pipeline.run()
    assert len(old.backend.live) == len(pipeline.engine.backend.live) == 1
    assert old.leases
    old.backend.finish(next(iter(old.backend.live.values())), "old")
    pipeline.engine.backend.finish(pipeline.live[0], "new")
    pipeline.run()
    assert (first.text, second.text) == ("old", "new")
    # Only now Triton may unload it.
    assert not old.leases
    old.die()


def test_an_engine_that_is_not_loaded_is_unavailable(make: Any) -> None:
    pipeline = make()
    engine, pipeline.leases.engine = pipeline.engine, None
    client = pipeline.ask()
    pipeline.run()
    assert client.error == "[unavailable] the engine can't be called"
    pipeline.leases.engine = engine


def test_requests_of_a_second_share_a_lease_which_ends_with_the_last_of_them(make: Any) -> None:
    pipeline = make()
    for _ in range(20):
        pipeline.ask()
    pipeline.run()
    assert len(pipeline.engine.leases) == 1
    pipeline.run(2)
    assert len(pipeline.engine.leases) == 1
    for request in pipeline.live:
        pipeline.engine.backend.finish(request)
    pipeline.run(0.01)
    assert pipeline.engine.leases == set()
    assert len(pipeline.leases.finished) == 1


def test_an_idle_engine_is_leased_for_a_second_at_most(make: Any) -> None:
    pipeline = make()
    pipeline.ask()
    pipeline.run()
    pipeline.engine.backend.finish(pipeline.live[0])
    pipeline.run(1.01)
    assert pipeline.engine.leases == set()


def test_under_load_the_next_lease_is_there_before_the_last_one_ends(make: Any) -> None:
    pipeline = make()
    for _ in range(50):
        pipeline.ask()
        pipeline.run(0.1)
        # The request is at the engine with the next turn of the loop, not after a call of Triton.
        assert not pipeline.dispatcher._engine._waiting
    assert len(pipeline.live) == 50


def test_a_request_past_its_deadline_ends_with_what_it_has_and_stops_the_engine(make: Any) -> None:
    pipeline = make(timeout=2)
    client = pipeline.ask()
    pipeline.run()
    pipeline.live[0].token("half an ")
    pipeline.run(1.9)
    assert not client.closed
    pipeline.run(0.1)
    assert (client.text, client.finish_reason) == ("half an ", "timeout")
    assert pipeline.live == []


def test_a_client_that_leaves_frees_the_engine_within_a_second(make: Any) -> None:
    pipeline = make()
    clients = [pipeline.ask() for _ in range(100)]
    pipeline.run()
    clients[50].cancelled = True
    pipeline.run(1)
    assert clients[50].finish_reason == "cancelled"
    assert len(pipeline.live) == 99
    assert not any(client.closed for client in clients if not client.cancelled)


def test_a_request_is_not_asked_for_its_client_again_before_the_first_answer(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make()
    # Longer than a round of questions takes.
    monkeypatch.setattr(virtual_time, "EXECUTOR_SECONDS", 1.0)
    client = pipeline.ask()
    pipeline.run(0.9)
    pipeline.engine.backend.finish(pipeline.live[0], "all")
    pipeline.run(3)
    # The fake sender notes a question to a closed sender.
    assert client.text == "all"


def test_a_large_burst_is_submitted_with_the_first_frame(make: Any) -> None:
    pipeline = make()
    clients = [pipeline.ask("words " * 100) for _ in range(100)]
    pipeline.run()
    assert len(pipeline.live) == 100
    assert not any(client.closed for client in clients)


def test_a_request_that_left_the_queue_gives_its_place_to_the_next(make: Any) -> None:
    pipeline = make(concurrent=1, queued=2, timeout=10)
    pipeline.ask()
    pipeline.run(5)
    waiting = [pipeline.ask(), pipeline.ask()]
    pipeline.run()
    assert (pipeline.running, pipeline.waiting) == (1, 2)
    waiting[0].cancelled = True
    pipeline.run(1)
    assert waiting[0].finish_reason == "cancelled"
    assert (pipeline.running, pipeline.waiting) == (1, 1)
    late = pipeline.ask()
    pipeline.run()
    assert not late.closed
    refused = pipeline.ask()
    pipeline.run()
    assert refused.error.startswith("[queue_full] 2 requests are waiting")
    assert [error.code for error in pipeline.refusals] == ["queue_full"]


def test_a_request_waits_its_turn(make: Any) -> None:
    pipeline = make(concurrent=2)
    clients = [pipeline.ask(f"{number}") for number in range(4)]
    pipeline.run()
    assert [request.generation.text for request in pipeline.live] == ["0", "1"]
    pipeline.engine.backend.finish(pipeline.live[0])
    pipeline.run()
    assert [request.generation.text for request in pipeline.live] == ["1", "2"]
    assert clients[0].closed


def test_a_deadline_passes_while_a_request_waits(make: Any) -> None:
    pipeline = make(concurrent=1, timeout=3)
    pipeline.ask()
    waiting = pipeline.ask()
    pipeline.run(3.1)
    assert waiting.finish_reason == "timeout"
    assert waiting.sent[-1].values()["guardrail"] == ["[]"]


def test_a_large_answer_that_does_not_fit_into_shared_memory_ends_as_an_error_and_frees_its_place(
    make: Any,
) -> None:
    def too_large(response: fake_backend_utils.InferenceResponse) -> bool:
        return any(len(text) > 1000 for text in response.values().get("text_output", []))

    pipeline = make(concurrent=1, queued=1)
    client = pipeline.ask(stream=False, sender=fake_backend_utils.Sender(too_large))
    following = pipeline.ask()
    pipeline.run()
    pipeline.engine.backend.finish(pipeline.live[0], "x" * 100_000)
    pipeline.run()
    assert client.error.startswith("[internal] a response could not be sent")
    assert client.closed
    pipeline.engine.backend.finish(pipeline.live[0], "fits")
    pipeline.run()
    assert following.text == "fits"


def test_a_stream_whose_response_cannot_be_sent_ends_and_stops_the_engine(make: Any) -> None:
    pipeline = make()
    client = pipeline.ask(sender=fake_backend_utils.Sender(lambda response: not response.has_error()))
    pipeline.run()
    pipeline.live[0].token("word ")
    pipeline.run()
    assert client.error.startswith("[internal]")
    assert pipeline.live == []
    assert pipeline.running == 0


def test_a_failure_of_the_engine_keeps_its_code_and_field(make: Any) -> None:
    from tritonllm import errors

    pipeline = make()
    client = pipeline.ask()
    pipeline.run()
    [request] = pipeline.live
    request.on_error(errors.RequestError("invalid_argument", "messages", "too long"))
    pipeline.run()
    # The client sent a prompt, not messages.
    assert client.error == "[invalid_argument] text_input: too long"


def test_first_texts_go_before_those_of_running_streams(make: Any) -> None:
    pipeline = make()
    order: list[str] = []

    class Noting(fake_backend_utils.Sender):
        name = ""

        def send(self, response: Any = None, flags: int = 0) -> None:
            super().send(response, flags)
            order.append(self.name)

    clients = []
    for number in range(30):
        sender = Noting()
        sender.name = str(number)
        clients.append(pipeline.ask(sender=sender))
    pipeline.run()
    *running, new = pipeline.live
    for request in running:
        request.token("a ")
    pipeline.run()
    order.clear()
    for request in (*running, new):
        request.token("b ")
    pipeline.run()
    assert order[0] == "29"
    assert len(order) == 30


def test_a_bug_ends_its_own_request_only(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tritonllm.runtime import answer

    pipeline = make()
    broken, well = pipeline.ask("broken"), pipeline.ask("well")
    pipeline.run()
    update = answer.Answer.update

    def fails(self: answer.Answer, new: Any) -> None:
        if new.texts == ["break"]:
            raise ValueError("a bug")
        update(self, new)

    monkeypatch.setattr(answer.Answer, "update", fails)
    pipeline.live[0].token("break")
    pipeline.live[1].token("fine")
    pipeline.run()
    assert broken.error == "[internal] the pipeline failed: ValueError('a bug')"
    assert well.text == "fine"


def test_several_instances_divide_the_limits(make: Any) -> None:
    pipeline = make(concurrent=5, queued=3, instances=2)
    clients = [pipeline.ask() for _ in range(6)]
    pipeline.run()
    assert (pipeline.running, pipeline.waiting) == (3, 2)
    assert [client.error.split("]")[0] for client in clients if client.closed] == ["[queue_full"]


def test_a_pipeline_has_few_threads_however_many_requests_it_serves() -> None:
    from tritonllm.runtime import direct

    before = threading.active_count()
    serving = direct.dispatcher(Path("/nowhere"))
    assert threading.active_count() - before == 1
    serving.close()
