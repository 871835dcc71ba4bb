"""OpenAI's client against `serve`: answers, rules, and what happens to streams when processes die or are replaced."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures

import httpx
import openai
import psutil
import pytest
import yaml
from google.protobuf import json_format

from integration import ask, server
from tritonllm import client as client_library
from tritonllm import files
from tritonllm.render import config

ENDPOINT = """
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {{name: {name}}}
spec:
  pool: test
  engine: {{type: simulated, args: {{reply: echo, inter_token_seconds: 0.02, max_num_seqs: 64}}}}
  guardrails:
    refusal: {refusal}
    input: [{{name: secrets, banned: {{phrases: [swordfish]}}, action: Block}}]
    output: [{{name: birds, banned: {{phrases: [{masked}]}}, action: Mask}}]
  limits: {{maxConcurrentRequests: 32, pipelineInstances: {instances}}}
"""
STORY = "a falcon and a sparrow fly over the sea " * 10


def endpoint(name: str = "chat", masked: str = "falcon", instances: int = 1, refusal: str = "Error") -> str:
    return ENDPOINT.format(name=name, masked=masked, instances=instances, refusal=refusal)


@pytest.fixture(scope="module")
def served() -> Iterator[server.Served]:
    endpoints = [endpoint(), endpoint("wide", instances=2), endpoint("polite", refusal="Message")]
    with server.running(endpoints, gateway={}) as running:
        yield running


def client(served: server.Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.gateway}/v1", api_key="none", max_retries=0, timeout=60)


def said(served: server.Served, prompt: str, model: str = "chat", **options: object) -> tuple[str, str]:
    """Text and finish reason of a streamed answer; or the error that ended it."""
    text, reason = "", ""
    try:
        with client(served).chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": prompt}],
            stream=True,
            **options,  # type: ignore[call-overload]
        ) as chunks:
            for chunk in chunks:
                for choice in chunk.choices:
                    text += choice.delta.content or ""
                    reason = choice.finish_reason or reason
    except openai.APIError as error:
        reason = str(error)
    return text, reason


def running_at_the_engine(served: server.Served, model: str = "chat") -> float:
    return ask.metric(served, "tritonllm_engine_requests_running", endpoint=model)


def test_answers_are_masked_whole_and_streamed(served: server.Served) -> None:
    whole = client(served).chat.completions.create(
        model="chat", messages=[{"role": "user", "content": "a falcon flies"}]
    )
    assert whole.choices[0].message.content == "a [REDACTED] flies"
    assert said(served, "a falcon flies") == ("a [REDACTED] flies", "stop")


def test_a_blocked_prompt_is_a_400_that_names_the_rule_and_the_message(served: server.Served) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "the sw0rdfish"}]
    with pytest.raises(openai.BadRequestError) as caught:
        client(served).chat.completions.create(model="chat", messages=messages)  # type: ignore[arg-type]
    assert caught.value.code == "content_filter"
    assert caught.value.param == "messages[1].content"
    assert "`secrets`" in caught.value.message
    assert "sw0rdfish" not in caught.value.response.text


def test_a_blocked_prompt_is_a_refusal_where_the_endpoint_wants_it(served: server.Served) -> None:
    answer = client(served).chat.completions.create(
        model="polite", messages=[{"role": "user", "content": "the swordfish"}]
    )
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == ("", "content_filter")
    assert choice.message.refusal == "This prompt was blocked by the guardrails of the endpoint."
    assert said(served, "the swordfish", "polite") == ("", "content_filter")


def test_a_function_is_called_and_its_arguments_are_masked(served: server.Served) -> None:
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    answer = client(served).chat.completions.create(
        model="chat",
        messages=[{"role": "user", "content": "look_up falcon"}],
        tools=[tool],  # type: ignore[list-item]
    )
    [call] = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == (
        "look_up",
        {"text": "look_up [REDACTED]"},
    )
    assert answer.choices[0].finish_reason == "tool_calls"


def test_a_function_that_is_asked_for_by_name_ends_with_stop_as_with_vllm(served: server.Served) -> None:
    function = {"name": "look_up", "parameters": {"type": "object"}}
    for choice, reason in (
        ("required", "tool_calls"),
        ({"type": "function", "function": {"name": "look_up"}}, "stop"),
    ):
        answer = client(served).chat.completions.create(
            model="chat",
            messages=[{"role": "user", "content": "a fish"}],
            tools=[{"type": "function", "function": function}],  # type: ignore[list-item]
            tool_choice=choice,  # type: ignore[arg-type]
        )
        assert answer.choices[0].message.tool_calls
        assert answer.choices[0].finish_reason == reason


def test_structured_outputs_of_the_simulated_engine_fit_their_schema(served: server.Served) -> None:
    schema = {"type": "object", "properties": {"city": {"enum": ["Rome"]}, "warm": {"type": "boolean"}}}
    answer = client(served).chat.completions.create(
        model="chat",
        messages=[{"role": "user", "content": "a fish"}],
        response_format={"type": "json_schema", "json_schema": {"name": "weather", "schema": schema}},
    )
    assert json.loads(answer.choices[0].message.content or "") == {"city": "Rome", "warm": True}


@pytest.mark.parametrize(
    "schema", [{"type": "integer", "maximum": "x"}, {"properties": 5}, {"$ref": 5, "minItems": {}}]
)
def test_a_schema_that_is_none_is_the_callers_mistake_and_harms_nobody_else(
    served: server.Served, schema: object
) -> None:
    with futures.ThreadPoolExecutor(1) as pool:
        stream = pool.submit(said, served, STORY, max_tokens=100, extra_body={"ignore_eos": True})
        server.until(lambda: running_at_the_engine(served) == 1, 60)
        answer = httpx.post(
            f"{served.gateway}/v1/chat/completions",
            json={
                "model": "chat",
                "messages": [{"role": "user", "content": "a fish"}],
                "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
            },
        )
        assert stream.result()[1] == "length"
    assert answer.status_code in (200, 400)


def test_models_have_the_context_length_of_their_engine(served: server.Served) -> None:
    listed = client(served).models.list().data
    assert {(each.model_extra or {})["max_model_len"] for each in listed} == {4096}


def test_the_rules_can_be_asked_alone(served: server.Served) -> None:
    answer = httpx.post(
        f"{served.gateway}/v1/moderations", json={"model": "chat", "input": ["the swordfish", "a fish"]}
    ).json()
    assert [result["flagged"] for result in answer["results"]] == [True, False]


@pytest.mark.parametrize("prompt", ["a falcon flies", "the swordfish"])
def test_the_client_library_has_the_same_answers_over_openais_api(served: server.Served, prompt: str) -> None:
    with (
        client_library.Client(served.grpc) as triton,
        client_library.Client(f"{served.gateway}/v1") as openais,
    ):
        assert openais.generate("chat", prompt) == triton.generate("chat", prompt)
        assert openais.check("chat", prompt) == triton.check("chat", prompt)


def test_the_command_line_asks_over_openais_api(served: server.Served) -> None:
    command = [sys.executable, "-m", "tritonllm", "generate", "chat", "a falcon flies"]
    run = subprocess.run(
        [*command, "--url", f"{served.gateway}/v1"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stdout) == (0, "a [REDACTED] flies\n"), run.stderr


def test_a_client_that_leaves_is_gone_from_the_engine_within_a_second(served: server.Served) -> None:
    assert min(seconds_until_gone(served) for _ in range(3)) < 1.5


def seconds_until_gone(served: server.Served) -> float:
    """How long the engine works for a client that has left."""
    with client(served).chat.completions.create(
        model="chat",
        messages=[{"role": "user", "content": STORY}],
        stream=True,
        max_tokens=4000,
        extra_body={"ignore_eos": True},
    ) as chunks:
        next(chunks)
        server.until(lambda: running_at_the_engine(served) == 1, 30)
    left = time.monotonic()
    server.until(lambda: running_at_the_engine(served) == 0, 30)
    return time.monotonic() - left


def test_requests_are_spread_over_the_processes_of_a_pipeline(served: server.Served) -> None:
    before = {process.pid: process.cpu_times().user for process in served.stubs("wide")}
    with futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: said(served, STORY, "wide"), range(64)))
    assert all(reason == "stop" and "falcon" not in text for text, reason in answers)
    spent = [process.cpu_times().user - before[process.pid] for process in served.stubs("wide")]
    assert min(spent) > max(spent) / 3


def test_a_policy_that_is_edited_under_streams_breaks_none_and_is_applied_to_what_begins_later(
    served: server.Served,
) -> None:
    begun = threading.Event()

    def load(masked: str) -> None:
        found, problems = files.resource(yaml.safe_load(endpoint(masked=masked)))
        assert found is not None, problems
        model = next(each for each in config.models(found) if each.name == "chat")
        body = {"parameters": {"config": json_format.MessageToJson(model)}}
        answer = httpx.post(f"{served.http}/v2/repository/models/chat/load", json=body, timeout=30)
        assert answer.status_code == 200, answer.text

    def stream(number: int) -> tuple[str, str]:
        if number == 7:
            begun.set()
        return said(served, STORY, max_tokens=500, extra_body={"ignore_eos": True})

    with futures.ThreadPoolExecutor(8) as pool:
        running = [pool.submit(stream, number) for number in range(8)]
        assert begun.wait(60)
        server.until(lambda: running_at_the_engine(served) == 8, 60)
        load("sparrow")
        server.until(lambda: said(served, "a sparrow, a falcon")[0] == "a [REDACTED], a falcon", 30)
        finished = [each.result() for each in running]
    assert {reason for _, reason in finished} == {"length"}
    assert all("falcon" not in text and "sparrow" in text for text, _ in finished)
    load("falcon")
    server.until(lambda: said(served, "a falcon")[0] == "a [REDACTED]", 30)


def test_a_pipeline_that_is_killed_ends_its_streams_at_once_and_is_back_without_a_restart_of_triton(
    served: server.Served,
) -> None:
    # About once in ten times, a thread of Triton's Python backend (24.10) crashes tritonserver when a model's process is killed.
    for _ in range(3):
        if not killed_under_load(served):
            return
    pytest.fail(served.story())


def killed_under_load(served: server.Served) -> bool:
    """Kills the pipeline under four streams; whether tritonserver was started again, too."""
    triton = served.triton.pid
    # Former versions have completed their requests and are gone.
    server.until(lambda: len(served.stubs("chat")) == 1, 60)
    with futures.ThreadPoolExecutor(4) as pool:
        streams = [
            pool.submit(said, served, STORY, max_tokens=4000, extra_body={"ignore_eos": True})
            for _ in range(4)
        ]
        server.until(lambda: running_at_the_engine(served) == 4, 60)
        served.stub("chat").kill()
        killed = time.monotonic()
        ends = [each.result()[1] for each in streams]
        # Their own end is 80 s away.
        assert time.monotonic() - killed < 20
    assert all("is being restarted" in end for end in ends)
    server.until(lambda: said(served, "a falcon") == ("a [REDACTED]", "stop"), 60, served.story)
    return served.triton.pid != triton


def test_a_gateway_that_is_killed_is_started_again_and_its_requests_do_not_stay(
    served: server.Served,
) -> None:
    def gateways() -> list[psutil.Process]:
        children = psutil.Process(served.pid).children()
        return [child for child in children if "gateway" in child.cmdline()]

    with futures.ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(said, served, STORY, max_tokens=4000, extra_body={"ignore_eos": True})
        server.until(lambda: running_at_the_engine(served) == 4, 60)
        [process] = gateways()
        process.kill()
        server.until(lambda: running_at_the_engine(served) == 0, 30)
    server.until(lambda: said(served, "a falcon") == ("a [REDACTED]", "stop"), 60, served.story)
    served.until_ready()


@pytest.mark.parametrize("workers", [1, 2])
def test_at_the_end_streams_are_completed_and_connections_closed(workers: int) -> None:
    with server.running([endpoint()], gateway={"workers": workers}, drain_seconds=30) as served:
        with futures.ThreadPoolExecutor(8) as pool:
            streams = [
                pool.submit(said, served, STORY, max_tokens=400, extra_body={"ignore_eos": True})
                for _ in range(8)
            ]
            server.until(lambda: running_at_the_engine(served) == 8, 60)
            served.process.terminate()
            ends = [each.result() for each in streams]
        assert {reason for _, reason in ends} == {"length"}
        # Four characters a token, with a longer text in place of each bird.
        whole = "".join(itertools.islice(itertools.cycle(STORY), 1600)).replace("falcon", "[REDACTED]")
        assert all(whole.startswith(text[:300]) for text, _ in ends)
        assert served.process.wait(60) == 0
