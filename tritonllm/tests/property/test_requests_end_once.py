"""Whatever clients, engine, clock and Triton do to each other: every request ends exactly once, and unguarded text never leaves.

Real parts: the dispatcher, the engine's server, the private stream between them over a Unix socket. Simulated: Triton's
objects, the engine's tokens, and the clock, so that minutes take milliseconds.
"""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import fake_backend_utils

fake_backend_utils.install()

from tritonllm import api, guardrails  # noqa: E402
from unit.runtime import pipelines  # noqa: E402

MASK = {"name": "bird", "banned": {"phrases": ["falcon", "sea eagle"]}, "action": "Mask"}
RULES = guardrails.compile([api.Rule.model_validate(MASK)])
TOKENS = st.sampled_from(["fal", "con", " sea", " ea", "gle ", "x", " ", "f4lc0n", "the"])
TIMEOUT = 20.0


@dataclasses.dataclass
class Client:
    """A request and what the engine has said to it."""

    sender: fake_backend_utils.Sender
    spoken: str = ""


class Requests(RuleBasedStateMachine):
    """Random schedules."""

    @initialize()
    def start(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.directory = tempfile.TemporaryDirectory()
        self.manager = pipelines.pipeline(
            self.patch, Path(self.directory.name), concurrent=3, queued=3, timeout=TIMEOUT, output=[MASK]
        )
        self.pipeline = self.manager.__enter__()
        self.clients: dict[str, Client] = {}
        self.dead: list[pipelines.Engine] = []
        self.unloaded: pipelines.Engine | None = None

    @rule(stream=st.booleans())
    def ask(self, stream: bool) -> None:
        name = f"request {len(self.clients)}"
        self.clients[name] = Client(self.pipeline.ask(name, stream=stream))

    @rule(at=st.integers(0, 5), text=TOKENS, reason=st.sampled_from([None, None, None, "stop", "length"]))
    def token(self, at: int, text: str, reason: str | None) -> None:
        live = self.submitted()
        if live:
            engine, request = live[at % len(live)]
            self.clients[request.generation.text or ""].spoken += text
            if reason:
                engine.backend.finish(request, text, reason)
            else:
                request.token(text)

    @rule(at=st.integers(0, 5))
    def engine_fails(self, at: int) -> None:
        from tritonllm import errors

        live = self.submitted()
        if live:
            engine, request = live[at % len(live)]
            del engine.backend.live[request.generation.id]
            request.on_error(errors.RequestError("engine_failure", "", "out of memory"))

    @rule(at=st.integers(0, 5))
    def client_leaves(self, at: int) -> None:
        if self.clients:
            list(self.clients.values())[-1 - at % len(self.clients)].sender.cancelled = True

    @rule(at=st.integers(0, 5))
    def shared_memory_is_full(self, at: int) -> None:
        if self.clients:
            sender = list(self.clients.values())[-1 - at % len(self.clients)].sender
            sender.fails = lambda response: not response.has_error() and len(sender.sent) > 1

    @rule()
    def engine_dies(self) -> None:
        if self.unloaded is None:
            self.pipeline.engine.die()
            self.dead.append(self.pipeline.engine)
            self.pipeline.load()

    @rule()
    def engine_is_reloaded(self) -> None:
        if self.unloaded is None:
            self.pipeline.load()

    @rule()
    def engine_is_unloaded_or_comes_back(self) -> None:
        leases = self.pipeline.leases
        leases.engine, self.unloaded = self.unloaded, leases.engine

    @rule(seconds=st.sampled_from([0.0, 0.0005, 0.01, 0.6, 1.1, 7.0, TIMEOUT]))
    def time_passes(self, seconds: float) -> None:
        self.pipeline.run(seconds)

    @invariant()
    def nothing_forbidden_has_left(self) -> None:
        for client in getattr(self, "clients", {}).values():
            whole = RULES.scan(client.spoken).text
            assert (
                whole.startswith(client.sender.text)
                or RULES.scan(client.sender.text).text == client.sender.text
            )

    def submitted(self) -> list[tuple[pipelines.Engine, pipelines.Submitted]]:
        engine = self.unloaded or self.pipeline.engine
        return (
            [(engine, request) for request in engine.backend.live.values()] if engine not in self.dead else []
        )

    def teardown(self) -> None:
        if not hasattr(self, "pipeline"):
            return
        if self.unloaded is not None:
            self.pipeline.leases.engine = self.unloaded
        self.pipeline.run(2 * TIMEOUT + 2)
        for client in self.clients.values():
            # A second final response, or anything after the first, has been refused by the sender itself.
            assert client.sender.closed
            if client.sender.finish_reason in ("stop", "length"):
                assert client.sender.text == RULES.scan(client.spoken).text
        assert (self.pipeline.running, self.pipeline.waiting) == (0, 0)
        assert self.pipeline.dispatcher._live == {}
        assert self.pipeline.engine.backend.live == {}
        assert self.pipeline.engine.leases == set()
        assert len(self.pipeline.summaries) + len(self.pipeline.refusals) == len(self.clients)
        self.manager.__exit__(None, None, None)
        self.directory.cleanup()
        self.patch.undo()
        asyncio.set_event_loop(None)


TestRequests = Requests.TestCase
TestRequests.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
