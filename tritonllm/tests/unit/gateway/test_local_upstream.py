"""The gateway's way to the pipelines of its pod: which process is asked, and what happens when one goes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import virtual_time
from tritonllm import errors
from tritonllm.gateway import calls, local, upstream
from tritonllm.ipc import announcements, channel
from tritonllm.runtime import pipeline_server, requests
from unit.runtime import pipelines

TEXT = {"text_input": "Hi", "stream": True}


class Pod:
    """Pipeline processes, and a gateway beside them."""

    def __init__(self, first: pipelines.Pipeline, directory: Path) -> None:
        self.first = first
        self.loop = first.loop
        self.servers: list[pipeline_server.PipelineServer] = []
        self.others: list[pipelines.Pipeline] = []
        self.gateway = local.LocalUpstream(directory)
        self.serve(first)
        self.run(self.gateway.start())

    def serve(
        self, pipeline: pipelines.Pipeline, name: str = "chat", spec_hash: str = "v1", created: float = 1.0
    ) -> pipeline_server.PipelineServer:
        """Another process of a pipeline."""
        description = {"name": name, "spec_hash": spec_hash, "created": created, "policy": spec_hash}
        server = pipeline_server.PipelineServer(
            virtual_time.Events(self.loop),  # type: ignore[arg-type]
            pipeline.dispatcher,
            lambda inputs: requests.parse(inputs, {}),
            pipeline.dispatcher._policy,  # type: ignore[arg-type]
            pipeline.judging,
            description,
        )
        self.run(server.start())
        self.servers.append(server)
        return server

    def another(self, **description: Any) -> tuple[pipelines.Pipeline, pipeline_server.PipelineServer]:
        """A further pipeline process with an engine of its own."""
        pipeline = pipelines.Pipeline(self.loop, self.first.dispatcher._limits, {})
        self.others.append(pipeline)
        return pipeline, self.serve(pipeline, **description)

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def pass_time(self, seconds: float = 0.5) -> None:
        self.first.run(seconds)


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Pod]:
    rule = {"name": "words", "banned": {"phrases": ["tango"]}, "action": "Mask"}
    with pipelines.pipeline(monkeypatch, tmp_path, output=[rule]) as first:
        made = Pod(first, tmp_path)
        try:
            yield made
        finally:
            made.run(made.gateway.close())
            for server in made.servers:
                server.close()
            for other in made.others:
                made.run(other.dispatcher._engine.close())
                other.engine.server.close()
            made.pass_time(0.05)


def texts(received: list[upstream.Outputs]) -> str:
    return "".join(outputs["text_output"][0] for outputs in received)


def test_an_answer_arrives_as_it_is_generated_with_the_rules_applied(pod: Pod) -> None:
    call = pod.gateway.submit("chat", TEXT)
    pod.pass_time(0.1)
    [submitted] = pod.first.live
    submitted.token("one ")
    assert pod.run(call.receive()) == ([{"text_output": ["one "]}], False)
    submitted.token("tango ")
    pod.first.engine.backend.finish(submitted, "two")
    received, ended = pod.run(call.receive())
    while not ended:
        more, ended = pod.run(call.receive())
        received += more
    assert texts(received) == "[REDACTED] two"
    assert received[-1]["finish_reason"] == ["stop"]
    assert '"rule": "words"' in received[-1]["guardrail"][0]


def test_the_mistake_of_a_caller_is_an_error_with_its_field(pod: Pod) -> None:
    call = pod.gateway.submit("chat", {"text_input": ""})
    with pytest.raises(errors.RequestError, match="text_input: is empty") as caught:
        pod.run(call.receive())
    assert (caught.value.code, caught.value.field) == ("invalid_argument", "text_input")


def test_a_text_is_checked_by_the_rules_of_the_endpoint(pod: Pod) -> None:
    verdict = pod.run(pod.gateway.check("chat", "a tango", "output"))
    assert (verdict.text, verdict.blocked) == ("a [REDACTED]", False)
    assert verdict.guardrail == [{"rule": "words", "action": "Mask", "direction": "output", "count": 1}]
    assert pod.run(pod.gateway.check("chat", "a tango", "input")).guardrail == []


def test_a_call_that_is_closed_is_aborted_at_the_engine(pod: Pod) -> None:
    call = pod.gateway.submit("chat", TEXT)
    pod.pass_time(0.1)
    call.close()
    call.close()
    pod.pass_time(0.1)
    assert pod.first.live == []
    assert len(pod.first.engine.backend.aborted) == 1
    assert [summary.outcome for summary in pod.first.summaries] == ["cancelled"]


def test_a_gateway_that_is_gone_cancels_all_its_requests(pod: Pod) -> None:
    for _ in range(3):
        pod.gateway.submit("chat", TEXT)
    pod.pass_time(0.1)
    assert len(pod.first.live) == 3
    pod.run(pod.gateway.close())
    pod.pass_time(0.1)
    assert pod.first.live == []
    assert pod.first.running == 0


def test_an_unknown_endpoint_is_not_found_and_one_that_has_just_been_loaded_is(pod: Pod) -> None:
    with pytest.raises(errors.RequestError, match="does not exist or is not loaded") as caught:
        pod.run(pod.gateway.submit("other", TEXT).receive())
    assert caught.value.code == "model_not_found"
    pipeline, _ = pod.another(name="other")
    call = pod.gateway.submit("other", TEXT)
    pod.pass_time(0.1)
    pipeline.engine.backend.finish(pipeline.live[0], "here")
    assert texts(pod.run(call.receive())[0]) == "here"


def test_processes_of_the_same_version_share_the_requests(pod: Pod) -> None:
    sibling, _ = pod.another()
    pod.pass_time()
    for _ in range(10):
        pod.gateway.submit("chat", TEXT)
    pod.pass_time(0.1)
    assert (len(pod.first.live), len(sibling.live)) == (5, 5)


def test_a_new_version_gets_the_requests_and_the_old_one_completes_its_own(pod: Pod) -> None:
    old = pod.gateway.submit("chat", TEXT)
    pod.pass_time(0.1)
    pipeline, _ = pod.another(spec_hash="v2", created=2.0)
    pod.pass_time()
    assert pod.gateway.endpoints()["chat"].policy == "v2"
    new = pod.gateway.submit("chat", TEXT)
    drained = pod.loop.create_task(pod.servers[0].drain(300))
    pod.pass_time(0.1)
    assert not drained.done()
    assert (len(pod.first.live), len(pipeline.live)) == (1, 1)
    pod.first.engine.backend.finish(pod.first.live[0], "old")
    assert texts(pod.run(old.receive())[0]) == "old"
    pod.run(asyncio.wait_for(drained, 1))
    pipeline.engine.backend.finish(pipeline.live[0], "new")
    assert texts(pod.run(new.receive())[0]) == "new"


def test_requests_that_a_closing_process_has_not_begun_with_go_to_the_next(pod: Pod) -> None:
    # As it is once Triton has begun to end the pipeline: it does not answer calls any more.
    pod.first.leases.open = asyncio.Event().wait  # type: ignore[method-assign]
    waiting = pod.gateway.submit("chat", TEXT)
    [process] = pod.gateway._processes.values()
    pipeline, _ = pod.another(spec_hash="v2", created=2.0)
    late = calls.Call(999)
    late.message = (channel.GENERATE, TEXT)
    drained = pod.loop.create_task(pod.servers[0].drain(300))
    process.submit(late)
    pod.pass_time(0.5)
    assert len(pipeline.live) == 2
    for each in pipeline.live:
        pipeline.engine.backend.finish(each, "new")
    assert texts(pod.run(waiting.receive())[0]) == "new"
    assert texts(pod.run(late.receive())[0]) == "new"
    pod.run(asyncio.wait_for(drained, 1))
    assert (pod.first.running, pod.first.waiting) == (0, 0)
    assert pod.first.dispatcher._engine._opening is not None
    pod.first.dispatcher._engine._opening.cancel()


def test_a_pipeline_waits_for_the_gateways_that_it_knows_of_but_not_for_long(pod: Pod) -> None:
    before = pod.loop.time()
    pod.run(pod.servers[0].wait_for_gateways(1, 1.0))
    assert pod.loop.time() == before
    pod.run(pod.servers[0].wait_for_gateways(2, 1.0))
    assert pod.loop.time() - before == pytest.approx(1.0, abs=0.01)


def test_a_pipeline_that_begins_to_listen_is_found_at_once_and_so_its_load_does_not_wait(pod: Pod) -> None:
    before = pod.loop.time()
    _, server = pod.another(spec_hash="v2", created=2.0)
    pod.run(server.wait_for_gateways(1, 1.0))
    assert pod.loop.time() == before


def test_a_pipeline_that_a_gateway_could_not_connect_to_is_found_later(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcements, "announce", lambda directory: None)
    _, server = pod.another(spec_hash="v2", created=2.0)
    pod.run(server.wait_for_gateways(1, 2.0))
    assert len(server.connections) == 1


def test_the_socket_of_a_gateway_that_was_killed_is_removed_and_the_others_hear_of_the_pipeline(
    pod: Pod, tmp_path: Path
) -> None:
    left = tmp_path / "killed.gateway"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as killed:
        killed.bind(str(left))
    before = pod.loop.time()
    _, server = pod.another(spec_hash="v2", created=2.0)
    pod.run(server.wait_for_gateways(1, 1.0))
    assert pod.loop.time() == before
    assert not left.exists()


def test_if_the_new_version_fails_the_old_one_is_asked_again(pod: Pod) -> None:
    _, server = pod.another(spec_hash="v2", created=2.0)
    pod.pass_time()
    pod.run(server.drain(300))
    pod.pass_time(0.1)
    assert pod.gateway.endpoints()["chat"].policy == "v1"


def test_a_pipeline_is_not_kept_from_ending_by_a_gateway_that_does_not_listen(pod: Pod) -> None:
    pod.gateway.submit("chat", TEXT)
    pod.pass_time(0.1)
    [process] = pod.gateway._processes.values()
    process._transport.pause_reading()
    before = pod.loop.time()
    pod.run(pod.servers[0].drain(20))
    assert pod.loop.time() - before == pytest.approx(20, abs=0.1)


def test_the_requests_of_a_pipeline_that_is_killed_fail_at_once_and_others_are_told_to_retry(
    pod: Pod,
) -> None:
    call = pod.gateway.submit("chat", TEXT)
    pod.pass_time(0.1)
    server = pod.servers[0]
    # As a killed process does: its connections are gone, its socket's file stays.
    server._server.close()  # type: ignore[union-attr]
    for connection in list(server.connections):
        connection._transport.abort()
    server._server = None
    with pytest.raises(errors.RequestError, match="pipeline has exited and is being restarted"):
        pod.run(call.receive())
    with pytest.raises(errors.RequestError, match="is being restarted; try again later") as caught:
        pod.run(pod.gateway.submit("chat", TEXT).receive())
    assert caught.value.code == "unavailable"
    assert pod.gateway.endpoints() == {}


def test_while_the_gateway_does_not_read_texts_are_merged_before_the_rules_see_them(pod: Pod) -> None:
    call = pod.gateway.submit("chat", TEXT)
    pod.pass_time(0.1)
    [submitted] = pod.first.live
    [process] = pod.gateway._processes.values()
    process._transport.pause_reading()
    tokens = 20_000
    for number in range(tokens):
        submitted.token(f"{number} " * 20)
        if number % 50 == 0:
            pod.pass_time(0.001)
    process._transport.resume_reading()
    pod.first.engine.backend.finish(submitted, "end")
    received: list[upstream.Outputs] = []
    ended = False
    while not ended:
        more, ended = pod.run(call.receive())
        received += more
    assert texts(received) == "".join(f"{number} " * 20 for number in range(tokens)) + "end"
    assert len(received) < tokens / 60


def test_a_process_without_the_token_is_not_answered(pod: Pod) -> None:
    async def scenario() -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(pod.servers[0].path))
        writer.write(channel.encode([[channel.HELLO, "wrong", "me"], [channel.GENERATE, 1, TEXT]]))
        received = await reader.read()
        writer.close()
        return received

    assert pod.run(scenario()) == b""
    assert pod.first.live == []
