"""Requests under rules that ask a classifier, with classifiers that are slow, fail, or never answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pipelines
import pytest

import fake_backend_utils
from tritonllm import errors
from tritonllm.runtime import backend, judged_input, requests

Serve = Callable[..., AbstractContextManager[pipelines.Pipeline]]
GOOD = "the river is blue and wide and we walk along it "


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Serve:
    return lambda **policy: pipelines.pipeline(monkeypatch, tmp_path, **policy)


def rule(action: str = "Block", **classifier: Any) -> dict[str, Any]:
    asks = {"model": "insults", "labels": ["insult"], "window": 128, "timeoutSeconds": 5} | classifier
    return {"name": "no-insults", "action": action, "classifier": asks}


def outcome(sender: fake_backend_utils.Sender) -> tuple[str, str]:
    """The text that was sent, and how the request ended."""
    assert sender.closed
    values = [response.values() for response in sender.sent if not response.has_error()]
    text = "".join(value["text_output"][0] for value in values)
    last = sender.sent[-1]
    if last.has_error():
        return text, errors.parse(last.error().message()).code
    return text, values[-1]["finish_reason"][0]


def test_the_engine_gets_the_prompt_only_after_the_verdict(serve: Serve) -> None:
    with serve(input=[rule()]) as pipeline:
        pipeline.classifiers.slow = True
        pipeline.ask(GOOD)
        pipeline.run()
        assert pipeline.live == []
        pipeline.classifiers.release()
        pipeline.run()
        assert [submitted.generation.text for submitted in pipeline.live] == [GOOD]


def test_a_prompt_that_a_rule_blocks_never_reaches_the_engine(serve: Serve) -> None:
    with serve(input=[rule()]) as pipeline:
        sender = pipeline.ask("you vermin")
        pipeline.run()
        assert outcome(sender) == ("", "content_filter")
        assert pipeline.live == []
        [summary] = pipeline.summaries
        assert summary.outcome == "content_filter"
        assert summary.verdicts[0]["field"] == "text_input"


def test_an_observed_prompt_reaches_the_engine_at_once_and_its_answer_ends_with_the_verdict(
    serve: Serve,
) -> None:
    with serve(input=[rule(mode="Observe")]) as pipeline:
        pipeline.classifiers.slow = True
        sender = pipeline.ask("you vermin")
        pipeline.run()
        pipeline.live[0].token("Once upon")
        pipeline.run()
        pipeline.classifiers.release()
        pipeline.run()
        assert outcome(sender) == ("Once upon", "content_filter")
        assert pipeline.live == []


def test_a_short_answer_waits_for_the_verdict_on_an_observed_prompt(serve: Serve) -> None:
    with serve(input=[rule(mode="Observe")]) as pipeline:
        pipeline.classifiers.slow = True
        sender = pipeline.ask("you vermin")
        pipeline.run()
        pipeline.engine.backend.finish(pipeline.live[0], "Yes")
        pipeline.run()
        assert not sender.closed
        pipeline.classifiers.release()
        pipeline.run()
        assert outcome(sender) == ("Yes", "content_filter")


def test_held_text_leaves_with_the_verdict_and_the_end_of_the_answer_waits_for_it(serve: Serve) -> None:
    with serve(output=[rule()]) as pipeline:
        pipeline.classifiers.slow = True
        sender = pipeline.ask()
        pipeline.run()
        pipeline.engine.backend.finish(pipeline.live[0], GOOD)
        pipeline.run()
        assert sender.sent == []
        pipeline.classifiers.release()
        pipeline.run()
        assert outcome(sender) == (GOOD, "stop")


@pytest.mark.parametrize("stream", [True, False])
def test_a_held_answer_ends_before_the_window_that_matches(serve: Serve, stream: bool) -> None:
    with serve(output=[rule()]) as pipeline:
        sender = pipeline.ask(stream=stream)
        pipeline.run()
        for _ in range(4):
            pipeline.live[0].token(GOOD)
        pipeline.run()
        pipeline.live[0].token("you vermin")
        pipeline.engine.backend.finish(pipeline.live[0])
        pipeline.run()
        text, reason = outcome(sender)
        assert reason == "content_filter"
        # The second window, from the middle of the first one on, is full without the insult.
        assert text == (GOOD * 4)[:128]


def test_an_observed_answer_is_sent_at_once_and_the_engine_stops_with_the_verdict(serve: Serve) -> None:
    with serve(output=[rule(mode="Observe")]) as pipeline:
        pipeline.classifiers.slow = True
        sender = pipeline.ask()
        pipeline.run()
        pipeline.live[0].token("you vermin " * 20)
        pipeline.run()
        assert sender.sent[0].values()["text_output"] == ["you vermin " * 20]
        pipeline.classifiers.release()
        pipeline.run()
        assert outcome(sender) == ("you vermin " * 20, "content_filter")
        assert len(pipeline.engine.backend.aborted) == 1


def test_matchers_come_first_and_judges_see_what_they_let_through(serve: Serve) -> None:
    masked = {"name": "bird", "banned": {"phrases": ["falcon"]}, "action": "Mask"}
    with serve(input=[rule(), masked], output=[masked, rule()]) as pipeline:
        sender = pipeline.ask("a falcon")
        pipeline.run()
        pipeline.engine.backend.finish(pipeline.live[0], "that falcon")
        pipeline.run()
        assert pipeline.classifiers.all == [["a [REDACTED]"], ["that [REDACTED]"]]
        assert outcome(sender) == ("that [REDACTED]", "stop")


def test_what_a_matcher_cuts_off_is_judged_before_it_leaves(serve: Serve) -> None:
    blocked = {"name": "bird", "banned": {"phrases": ["falcon"]}, "action": "Block"}
    with serve(output=[blocked, rule()]) as pipeline:
        good, bad = pipeline.ask(), pipeline.ask()
        pipeline.run()
        for submitted, text in zip(
            pipeline.live, ("look, a falcon flies", "vermin, a falcon flies"), strict=True
        ):
            submitted.token(text)
        pipeline.run()
        assert outcome(good) == ("look, a ", "content_filter")
        assert outcome(bad) == ("", "content_filter")


@pytest.mark.parametrize("mode", ["Hold", "Observe"])
def test_closed_a_classifier_that_fails_fails_the_request_and_says_which_rule(
    serve: Serve, mode: str
) -> None:
    with serve(input=[rule(mode=mode)]) as pipeline:
        pipeline.classifiers.answer = errors.RequestError("unavailable", "", "it is not loaded")
        sender = pipeline.ask()
        pipeline.run()
        assert outcome(sender)[1] == "guardrail_failure"
        message = sender.sent[-1].error().message()
        assert "no-insults" in message
        assert "it is not loaded" in message
        assert [judgement.problem for judgement in pipeline.judgements] == ["failure"]
        assert pipeline.live == []


def test_open_a_classifier_that_fails_lets_the_text_pass_and_it_is_counted(serve: Serve) -> None:
    with serve(failurePolicy="Open", input=[rule()], output=[rule()]) as pipeline:
        pipeline.classifiers.answer = RuntimeError("broken")
        sender = pipeline.ask()
        pipeline.run()
        pipeline.engine.backend.finish(pipeline.live[0], GOOD)
        pipeline.run()
        assert outcome(sender) == (GOOD, "stop")
        assert pipeline.summaries[0].guardrail_failures == 2


def test_a_classifier_that_does_not_answer_in_time_is_a_failure(serve: Serve) -> None:
    with serve(input=[rule()]) as pipeline:
        pipeline.classifiers.slow = True
        sender = pipeline.ask()
        pipeline.run(4.9)
        assert not sender.closed
        pipeline.run(0.2)
        assert outcome(sender)[1] == "guardrail_failure"
        assert "did not answer within 5 s" in sender.sent[-1].error().message()
        assert [judgement.problem for judgement in pipeline.judgements] == ["timeout"]
        # A late answer changes nothing, and the next request is judged.
        pipeline.classifiers.slow = False
        pipeline.classifiers.release()
        pipeline.ask()
        pipeline.run()
        assert len(pipeline.live) == 1


def test_a_request_at_its_deadline_ends_with_what_was_judged(serve: Serve) -> None:
    with serve(output=[rule(timeoutSeconds=60)], timeout=10) as pipeline:
        sender = pipeline.ask()
        pipeline.run()
        pipeline.live[0].token(GOOD * 3)
        pipeline.run()
        pipeline.classifiers.slow = True
        pipeline.engine.backend.finish(pipeline.live[0], "and something unjudged")
        pipeline.run(11)
        text, reason = outcome(sender)
        assert reason == "timeout"
        assert text == (GOOD * 3)[: len(text)]
        assert 0 < len(text) < len(GOOD * 3)


def test_a_client_that_leaves_withdraws_its_questions(serve: Serve) -> None:
    with serve(input=[rule()]) as pipeline:
        pipeline.classifiers.slow = True
        first, second = pipeline.ask("one"), pipeline.ask("two")
        pipeline.run(0.01)
        third = pipeline.ask("three")
        pipeline.run(0.01)
        third.cancelled = True
        pipeline.run(2)
        assert outcome(third)[1] == "cancelled"
        pipeline.classifiers.release()
        pipeline.run(0.01)
        assert pipeline.classifiers.all == [["one", "two"]]
        assert len(pipeline.live) == 2
        assert not first.closed
        assert not second.closed


def test_texts_that_wait_for_a_classifier_go_together_in_the_next_call(serve: Serve) -> None:
    with serve(input=[rule()]) as pipeline:
        pipeline.classifiers.slow = True
        pipeline.ask("first")
        pipeline.run(0.01)
        for number in range(40):
            pipeline.ask(f"text {number}")
        pipeline.run(0.01)
        pipeline.classifiers.slow = False
        pipeline.classifiers.release()
        pipeline.run(0.01)
        assert [len(texts) for texts in pipeline.classifiers.all] == [1, 32, 8]


def test_a_long_prompt_does_not_keep_others_waiting_until_all_of_it_is_judged(serve: Serve) -> None:
    with serve(input=[rule()]) as pipeline:
        pipeline.classifiers.slow = True
        pipeline.ask(GOOD * 36)
        pipeline.run(0.01)
        pipeline.ask("short")
        pipeline.run(0.01)
        pipeline.classifiers.release()
        pipeline.run(0.01)
        assert "short" in pipeline.classifiers.all[1]


def test_a_tool_call_leaves_only_after_it_was_judged(serve: Serve) -> None:
    with serve(output=[rule()]) as pipeline:
        good, bad = pipeline.ask(), pipeline.ask()
        pipeline.run()
        for submitted, text in zip(pipeline.live, ("blue", "vermin"), strict=True):
            function = {"name": "say", "arguments": json.dumps({"text": text})}
            delta = {"index": 0, "id": "c1", "type": "function", "function": function}
            submitted.on_update(backend.Update([""], ["tool_calls"], 3, [1], tool_calls=[[delta]]))
        pipeline.run()
        assert outcome(good) == ("", "tool_calls")
        [calls] = [json.loads(item) for item in good.sent[-1].values()["tool_calls"]]
        assert calls[0]["function"]["arguments"] == '{"text": "blue"}'
        assert outcome(bad) == ("", "content_filter")
        assert all("tool_calls" not in response.values() for response in bad.sent)
        assert sorted(pipeline.classifiers.all[0]) == ["say\ntext\nblue", "say\ntext\nvermin"]


def test_all_that_a_model_reads_of_a_conversation_is_judged_and_a_tool_is_one_text() -> None:
    call = {"id": "c", "function": {"name": "look", "arguments": '{"city": "Rome", "days": ["Monday"]}'}}
    tool = {"type": "function", "function": {"name": "look", "description": "Looks."}}
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "Sunny"},
    ]
    asked = requests.parse({"messages": json.dumps(turns), "chat_options": json.dumps({"tools": [tool]})}, {})
    assert dict(judged_input.texts(asked)) == {
        "messages[0].content": "Hi",
        "messages[1].content": "",
        "messages[1].tool_calls[0]": "look\ncity\nRome\ndays\nMonday",
        "messages[2].content": "Sunny",
        "chat_options.tools[0]": "type\nfunction\nfunction\nname\nlook\ndescription\nLooks.",
    }
