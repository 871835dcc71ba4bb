"""One request from client to engine and back, through the real tritonserver; engines are simulated."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent import futures

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton

from integration import ask, server
from tritonllm.runtime import metric_names

HEAD = "apiVersion: tritonllm.io/v1alpha1\nkind: LLMEndpoint\n"
ENDPOINTS = [
    HEAD
    + """
metadata: {name: words}
spec:
  pool: test
  engine: {type: simulated, args: {inter_token_seconds: 0.002, max_model_len: 2000, fail_on: please fail}}
  sampling: {maxTokensLimit: 500}
  guardrails: {}
""",
    HEAD
    + """
metadata: {name: echo}
spec:
  pool: test
  engine: {type: simulated, args: {reply: echo}}
  prompt: {format: Chat}
  guardrails:
    input:
      - {name: secret, banned: {phrases: [launch codes]}, action: Block}
      - {name: card, pattern: {regex: '\\d{16}'}, action: Mask, replacement: "[CARD]"}
    output:
      - {name: bird, banned: {phrases: [falcon]}, action: Mask}
      - {name: stop, banned: {phrases: [abracadabra]}, action: Block}
      - {name: seen, banned: {phrases: [sparrow]}, action: Flag}
""",
    HEAD
    + """
metadata: {name: slow}
spec:
  pool: test
  engine: {type: simulated, args: {inter_token_seconds: 0.05}}
  guardrails: {output: [{name: x, banned: {phrases: [tango]}, action: Mask}]}
  limits: {requestTimeoutSeconds: 3}
""",
    HEAD
    + """
metadata: {name: narrow}
spec:
  pool: test
  engine: {type: simulated, args: {inter_token_seconds: 0.05}}
  guardrails: {}
  limits: {maxConcurrentRequests: 2, maxQueuedRequests: 1}
""",
]
# A minute at the slow ones.
ENDLESS = {"ignore_eos": True, "max_tokens": 1200}


@pytest.fixture(scope="module")
def served() -> Iterator[server.Served]:
    with server.running(ENDPOINTS) as running:
        yield running


def test_an_answer_is_the_same_whole_in_pieces_and_over_grpc(served: server.Served) -> None:
    whole = ask.generate(served, "words", text_input="Hello")
    pieces = list(ask.stream(served, "words", text_input="Hello"))
    messages = ask.grpc(served, "words", text_input="Hello", stream=True)
    assert len(pieces) > 5
    assert "".join(piece["text_output"] for piece in pieces) == whole["text_output"]
    assert "".join(message["text_output"][0] for message in messages) == whole["text_output"]
    assert whole["finish_reason"] == pieces[-1]["finish_reason"] == messages[-1]["finish_reason"][0] == "stop"
    assert (
        whole["num_output_tokens"] == pieces[-1]["num_output_tokens"] == messages[-1]["num_output_tokens"][0]
    )
    assert whole["num_input_tokens"] == 2
    assert all("finish_reason" not in piece for piece in pieces[:-1])


def test_sampling_parameters_come_as_a_tensor_or_as_keys_of_the_body(served: server.Served) -> None:
    by_key = ask.generate(served, "words", text_input="Hello", max_tokens=3)
    by_tensor = ask.generate(served, "words", text_input="Hello", sampling_parameters='{"max_tokens": 3}')
    nested = ask.generate(served, "words", text_input="Hello", parameters={"max_tokens": 3})
    assert by_key == by_tensor == nested
    assert (by_key["finish_reason"], by_key["num_output_tokens"]) == ("length", 3)


def test_choices_of_one_prompt_come_side_by_side(served: server.Served) -> None:
    answer = ask.generate(served, "words", text_input="Hello", n=2)
    pieces = list(ask.stream(served, "words", text_input="Hello", n=2))
    for choice in range(2):
        assert "".join(piece["text_output"][choice] for piece in pieces) == answer["text_output"][choice]
    assert answer["text_output"][0] != answer["text_output"][1]
    assert answer["finish_reason"] == ["stop", "stop"]


def test_a_conversation_is_answered(served: server.Served) -> None:
    turns = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    assert ask.generate(served, "echo", messages=json.dumps(turns))["text_output"] == "three"


def test_the_prompt_can_be_put_in_front_of_the_answer(served: server.Served) -> None:
    plain = ask.generate(served, "words", text_input="Hello ")["text_output"]
    echoed = ask.generate(served, "words", text_input="Hello ", exclude_input_in_output=False)["text_output"]
    assert echoed == "Hello " + plain


def test_a_banned_prompt_is_refused_before_the_engine_sees_it(served: server.Served) -> None:
    def refused(text: str) -> float:
        """Has a prompt refused; the tokens counted once that refusal, and so all before it, has been counted."""
        seen = lambda: ask.metric(served, metric_names.VERDICTS, rule="secret", endpoint="echo")  # noqa: E731
        before = seen()
        answer = ask.generate(served, "echo", text_input=text)
        assert answer["finish_reason"] == "content_filter"
        assert answer["text_output"] == ""
        assert json.loads(answer["guardrail"]) == [
            {"rule": "secret", "action": "Block", "direction": "input", "count": 1, "field": "text_input"}
        ]
        server.until(lambda: seen() > before, 30)
        return ask.metric(served, metric_names.INPUT_TOKENS, endpoint="echo")

    assert refused("the launch codes") == refused("THE  L4UNCH codes!")


def test_a_banned_phrase_in_any_turn_refuses_the_conversation(served: server.Served) -> None:
    turns = [{"role": "assistant", "content": "the launch codes"}, {"role": "user", "content": "Thanks"}]
    assert ask.generate(served, "echo", messages=json.dumps(turns))["finish_reason"] == "content_filter"


def test_a_prompt_is_masked_before_the_engine_sees_it(served: server.Served) -> None:
    answer = ask.generate(served, "echo", text_input="pay 4111111111111111 now")
    assert answer["text_output"] == "pay [CARD] now"


def test_a_banned_word_that_comes_in_pieces_is_masked_also_in_a_stream(served: server.Served) -> None:
    text = "one falcon, two F4LC0NS? no: **falcon**."
    expected = "one [REDACTED], two F4LC0NS? no: **[REDACTED]**."
    assert ask.generate(served, "echo", text_input=text)["text_output"] == expected
    pieces = list(ask.stream(served, "echo", text_input=text))
    assert "".join(piece["text_output"] for piece in pieces) == expected
    assert json.loads(pieces[-1]["guardrail"])[0]["count"] == 2


def test_a_blocked_answer_is_cut_before_the_phrase_also_in_a_stream(served: server.Served) -> None:
    text = "say abracadabra and more of it"
    whole = ask.generate(served, "echo", text_input=text)
    pieces = list(ask.stream(served, "echo", text_input=text))
    assert whole["text_output"] == "".join(piece["text_output"] for piece in pieces) == "say "
    assert whole["finish_reason"] == pieces[-1]["finish_reason"] == "content_filter"
    assert whole["num_input_tokens"] == 8
    assert whole["num_output_tokens"] >= 4, "what was generated counts, though it was not shown"


def test_a_flag_reports_and_changes_nothing(served: server.Served) -> None:
    answer = ask.generate(served, "echo", text_input="a sparrow")
    assert answer["text_output"] == "a sparrow"
    assert json.loads(answer["guardrail"])[0]["action"] == "Flag"


def test_the_policy_judges_texts_as_a_model_of_its_own(served: server.Served) -> None:
    texts = ["fine", "the launch codes", "4111111111111111"]
    tensor = triton.InferInput("text_input", [3, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[text.encode()] for text in texts], dtype=object))
    with triton.InferenceServerClient(served.grpc) as client:
        result = client.infer("echo-guardrail", [tensor])
    assert result is not None
    assert np.ravel(np.asarray(result.as_numpy("blocked"))).tolist() == [False, True, False]
    assert np.ravel(np.asarray(result.as_numpy("text_output"))).tolist() == [b"fine", b"", b"[CARD]"]
    judged = ask.generate(served, "echo-guardrail", text_input="a falcon", direction="output")
    assert judged["text_output"] == "a [REDACTED]"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "[invalid_argument] text_input: is missing"),
        ({"text_input": ""}, "[invalid_argument] text_input: is empty"),
        ({"text_input": "a", "messages": "[]"}, "[invalid_argument] messages: cannot be combined with"),
        ({"messages": "nonsense"}, "[invalid_argument] messages: is not JSON"),
        ({"text_input": "a", "max_tokens": 501}, "max_tokens: must be at most 500 at this endpoint, got 501"),
        ({"text_input": "a", "max_tokens": "five"}, "[invalid_argument] sampling_parameters.max_tokens"),
        ({"text_input": "a", "temprature": 1}, "did you mean `temperature`?"),
        (
            {"text_input": "word " * 3000},
            "[invalid_argument] text_input: 3750 tokens, but the model's context is 2000",
        ),
        (
            {"text_input": "x" * 1_000_000},
            "[invalid_argument] text_input: has 1000000 characters; the maximum of this endpoint is 32000",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_input_is_told_its_field_at_once(
    served: server.Served, body: dict[str, object], said: str
) -> None:
    started = time.monotonic()
    answer = ask.generate(served, "words", **body)
    assert said in answer["error"]
    assert time.monotonic() - started < 5


def test_what_triton_itself_refuses_is_an_error_and_harms_nothing(served: server.Served) -> None:
    url = f"{served.http}/v2/models/words/generate"
    assert httpx.post(url, content=b"{nope").status_code >= 400
    assert "non-string" in ask.generate(served, "words", text_input=5)["error"]
    assert "non-boolean" in ask.generate(served, "words", text_input="a", stream="yes")["error"]
    assert "nobody" in ask.generate(served, "nobody", text_input="a")["error"]
    assert ask.generate(served, "words", text_input="Hello")["finish_reason"] == "stop"


def test_bytes_that_are_no_text_are_refused(served: server.Served) -> None:
    answer = ask.grpc(served, "words", text_input=b"caf\xe9")[-1]
    assert "[invalid_argument] text_input: is not UTF-8: bad byte at offset 3" in answer["error"]


def test_the_engine_answers_its_pipeline_only(served: server.Served) -> None:
    for body in (
        {"text_input": "a"},
        {"text_input": "a", "tritonllm_token": "guess"},
        {"tritonllm_stop": "x"},
    ):
        assert "[permission_denied] words-engine" in ask.generate(served, "words-engine", **body)["error"]


def test_a_failing_engine_harms_no_other_request(served: server.Served) -> None:
    with futures.ThreadPoolExecutor(8) as pool:
        others = [pool.submit(ask.generate, served, "words", text_input=f"Hello {n}") for n in range(7)]
        events = list(ask.stream(served, "words", text_input="please fail"))
        assert events[0]["text_output"]
        assert "[engine_failure]" in events[-1]["error"]
        assert all(other.result()["finish_reason"] == "stop" for other in others)


def test_a_client_that_leaves_frees_its_place(served: server.Served) -> None:
    def seconds_until_gone() -> float:
        events = ask.stream(served, "narrow", text_input="Hello", **ENDLESS)
        assert len(list(itertools.islice(events, 2))) == 2
        server.until(lambda: ask.metric(served, metric_names.ENGINE_RUNNING, endpoint="narrow") == 1, 30)
        events.close()  # pyright: ignore[reportAttributeAccessIssue]
        left = time.monotonic()
        server.until(lambda: ask.metric(served, metric_names.RUNNING, endpoint="narrow") == 0, 30)
        seconds = time.monotonic() - left
        server.until(lambda: ask.metric(served, metric_names.ENGINE_RUNNING, endpoint="narrow") == 0, 30)
        return seconds

    assert min(seconds_until_gone() for _ in range(3)) < 1.2
    cancelled = lambda: ask.metric(served, metric_names.REQUESTS, endpoint="narrow", outcome="cancelled")  # noqa: E731
    server.until(lambda: cancelled() >= 3, 30)


def test_a_request_past_its_deadline_ends_with_what_it_has(served: server.Served) -> None:
    started = time.monotonic()
    answer = ask.generate(served, "slow", text_input="Hello", **ENDLESS)
    assert answer["finish_reason"] == "timeout"
    assert answer["text_output"]
    assert answer["num_output_tokens"] * 4 == len(answer["text_output"])
    assert time.monotonic() - started < 20
    server.until(lambda: ask.metric(served, metric_names.ENGINE_RUNNING, endpoint="slow") == 0, 30)


def test_one_request_too_many_is_refused_at_once_and_counted(served: server.Served) -> None:
    enough = threading.Event()

    def busy() -> None:
        for _ in ask.stream(served, "narrow", text_input="Hello", **ENDLESS):
            if enough.is_set():
                return

    before = ask.metric(served, metric_names.REJECTIONS, endpoint="narrow", reason="queue_full")
    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    server.until(
        lambda: (
            ask.metric(served, metric_names.RUNNING, endpoint="narrow") == 2
            and ask.metric(served, metric_names.WAITING, endpoint="narrow") == 1
        ),
        30,
    )
    seconds: list[float] = []
    for _ in range(3):
        started = time.monotonic()
        assert "[queue_full]" in ask.generate(served, "narrow", text_input="Hello")["error"]
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 0.5
    enough.set()
    for thread in threads:
        thread.join()
    after = lambda: ask.metric(served, metric_names.REJECTIONS, endpoint="narrow", reason="queue_full")  # noqa: E731
    server.until(lambda: after() == before + 3, 30)
    server.until(lambda: ask.metric(served, metric_names.RUNNING, endpoint="narrow") == 0, 30)
    server.until(lambda: ask.metric(served, metric_names.WAITING, endpoint="narrow") == 0, 30)


def test_every_metric_is_there_and_says_which_endpoint() -> None:
    with server.running(ENDPOINTS[1:2]) as fresh:
        found = httpx.get(fresh.metrics).text
    # These begin with a rule that asks a classifier, and with an adapter; test_classifiers.py and test_serve_adapters.py
    # have them.
    of_others = (
        metric_names.JUDGEMENTS,
        metric_names.JUDGEMENT,
        metric_names.ADAPTER_REQUESTS,
        metric_names.ADAPTER_OUTPUT_TOKENS,
    )
    families = [*metric_names.PIPELINE, *metric_names.ENGINE]
    for family in (family for family in families if family.name not in of_others):
        name = family.name + ("_count" if family.kind == "HISTOGRAM" else "")
        assert f"# HELP {family.name} {family.description}" in found
        assert f"\n{name}{{" in found
    assert found.count('endpoint="echo"') >= len(metric_names.PIPELINE) - len(of_others)


def test_the_engine_can_be_opened_for_clients_of_tritons_own_backend() -> None:
    with server.running(ENDPOINTS[:1], allow_direct_engine=True) as opened:
        answer = ask.generate(opened, "words-engine", text_input="Hello ", max_tokens=2)
        assert answer["text_output"].startswith("Hello ")
        pieces = ask.grpc(
            opened, "words-engine", text_input="Hello", stream=True, return_num_output_tokens=True
        )
        whole = ask.generate(opened, "words", text_input="Hello")
        assert sum(piece["num_output_tokens"][0] for piece in pieces) == whole["num_output_tokens"]
        events = ask.stream(opened, "words-engine", text_input="Hello", **ENDLESS)
        next(events)
        events.close()  # pyright: ignore[reportAttributeAccessIssue]
        server.until(lambda: ask.metric(opened, metric_names.ENGINE_RUNNING) == 0, 30)
