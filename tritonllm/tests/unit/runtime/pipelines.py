"""A pipeline's dispatcher and its engine's server, in one event loop with a clock that jumps."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fake_backend_utils
import virtual_time
from tritonllm import api, errors
from tritonllm.ipc import listener, run_token
from tritonllm.render import canonical
from tritonllm.runtime import (
    backend,
    dispatcher,
    engine_server,
    judging,
    request_context,
    requests,
    screening,
    senders,
)


@dataclasses.dataclass
class Submitted:
    """A request at the engine."""

    generation: backend.Generation
    on_update: Callable[[backend.Update], None]
    on_error: Callable[[errors.RequestError], None]

    def token(self, text: str, finish_reason: str | None = None) -> None:
        """The engine has generated a token."""
        n = self.generation.sampling.n or 1
        self.on_update(backend.Update([text] * n, [finish_reason] * n, 3, [1] * n))


class FakeBackend:
    """An engine that does what the test says."""

    def __init__(self) -> None:
        self.live: dict[str, Submitted] = {}
        self.aborted: list[str] = []

    def submit(
        self,
        generation: backend.Generation,
        on_update: Callable[[backend.Update], None],
        on_error: Callable[[errors.RequestError], None],
    ) -> None:
        self.live[generation.id] = Submitted(generation, on_update, on_error)

    def abort(self, request_id: str) -> None:
        if self.live.pop(request_id, None):
            self.aborted.append(request_id)

    def finish(self, submitted: Submitted, text: str = "", reason: str = "stop") -> None:
        """A request ends with a last token."""
        del self.live[submitted.generation.id]
        submitted.token(text, reason)


class Engine:
    """An engine model: its backend, its server and the leases that it has granted."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.backend = FakeBackend()
        self.leases: set[str] = set()
        self.server = engine_server.EngineServer(loop, self.backend, self._release, self._disconnected)  # type: ignore[arg-type]

    def _release(self, lease: str, report: Callable[[], None]) -> None:
        self.leases.discard(lease)
        report()

    def _disconnected(self, owner: str) -> None:
        self.leases = {lease for lease in self.leases if not lease.startswith(owner)}

    def die(self) -> None:
        """The process is gone: so are its sockets, and nothing comes from it any more."""
        for connection in self.server.connections:
            connection._transport.abort()
        self.server.close()


class Leases:
    """What Triton does for a pipeline: calls reach the engine that is loaded."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.finished: list[str] = []
        self.abandoned: list[str] = []
        self._numbers = itertools.count(1)

    async def open(self) -> tuple[str, str]:
        await asyncio.sleep(0.001)
        if self.engine is None:
            raise errors.RequestError("unavailable", "", "the engine can't be called")
        name = f"owner.{next(self._numbers)}"
        self.engine.leases.add(name)
        return name, str(self.engine.server.path)

    def finish(self, name: str) -> None:
        self.finished.append(name)

    def abandon(self, name: str) -> None:
        self.abandoned.append(name)

    def close(self) -> None:
        """Nothing to end."""


class Classifiers:
    """Every classifier of a pipeline: finds insults, once the test lets it answer.

    Attributes:
        calls: the texts of each call that waits for an answer, with its model and how to answer.
        all: the texts of every call, in order.
        slow: whether calls wait for `release`.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str], Callable[[object], None]]] = []
        self.all: list[list[str]] = []
        self.slow = False
        self.answer: object = None

    def call(self, model: str, texts: Any, answer: Callable[[object], None]) -> None:
        self.all.append(list(texts))
        self.calls.append((model, list(texts), answer))
        if not self.slow:
            self.release()

    def release(self) -> None:
        """Answers the calls that wait."""
        calls, self.calls = self.calls, []
        for _, texts, answer in calls:
            answer(self.answer or [_scores(text) for text in texts])

    def leave(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to end."""


def _scores(text: str) -> dict[str, float]:
    bad = 0.9 if "vermin" in text else 0.1
    return {"insult": bad, "fine": 1 - bad}


class Pipeline:
    """The dispatcher with all that it talks to.

    Attributes:
        engines: all that were ever loaded.
        summaries: how requests ended, in order.
        refusals: errors of requests that were refused.
        running: requests that run, as the metric says.
        waiting: requests that wait, as the metric says.
        classifiers: those that its rules ask.
        judgements: how questions to them ended.
    """

    def __init__(self, loop: virtual_time.VirtualLoop, limits: api.Limits, policy: dict[str, Any]) -> None:
        self.loop = loop
        self.leases = Leases()
        self.engines: list[Engine] = []
        self.summaries: list[request_context.Summary] = []
        self.refusals: list[errors.RequestError] = []
        self.running = self.waiting = 0
        self.dispatcher = dispatcher.Dispatcher(
            virtual_time.Events(loop),  # type: ignore[arg-type]
            limits,
            screening.EndpointPolicy.load(canonical.pack(policy)),
            lambda request: request,
            self._count,
            self.summaries.append,
            self.refusals.append,
        )
        self.classifiers = Classifiers()
        self.judgements: list[judging.Judgement] = []
        self.judging = judging.Judging(loop, self.classifiers, self.judgements.append)
        self.dispatcher.start(self.leases, "owner", self.judging)
        self.load()

    @property
    def engine(self) -> Engine:
        """The engine that is loaded."""
        assert self.leases.engine is not None
        return self.leases.engine

    @property
    def live(self) -> list[Submitted]:
        """The requests at the engine, in order."""
        return list(self.engine.backend.live.values())

    def load(self) -> None:
        """A new engine takes the place of the old one."""
        self.leases.engine = Engine(self.loop)
        self.engines.append(self.leases.engine)
        self.loop.run_until_complete(self.leases.engine.server.start())

    def ask(
        self,
        text: str = "Hi",
        *,
        stream: bool = True,
        sender: fake_backend_utils.Sender | None = None,
        **sampling: Any,
    ) -> fake_backend_utils.Sender:
        """A client's request."""
        sender = sender or fake_backend_utils.Sender()
        asked = requests.parse({"text_input": text, "stream": stream}, sampling)
        self.dispatcher.submit(senders.TritonSender(sender), asked, self.loop.time())
        return sender

    def run(self, seconds: float = 0.05) -> None:
        """Lets time pass."""
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def _count(self, running: int, waiting: int) -> None:
        self.running += running
        self.waiting += waiting


@contextlib.contextmanager
def pipeline(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
    *,
    concurrent: int = 256,
    queued: int = 512,
    timeout: float = 300,
    instances: int = 1,
    **policy: Any,
) -> Iterator[Pipeline]:
    """A pipeline in front of an engine, with these guardrails."""
    monkeypatch.setenv(run_token.VARIABLE, "secret")
    monkeypatch.setenv(listener.DIRECTORY, str(tmp_path))
    limits = api.Limits.model_validate(
        {
            "maxConcurrentRequests": concurrent,
            "maxQueuedRequests": queued,
            "requestTimeoutSeconds": timeout,
            "pipelineInstances": instances,
        }
    )
    loop = virtual_time.VirtualLoop()
    asyncio.set_event_loop(loop)
    made = Pipeline(loop, limits, policy)
    fake_backend_utils.Sender.violations.clear()
    try:
        yield made
        assert fake_backend_utils.Sender.violations == []
    finally:
        loop.run_until_complete(made.dispatcher._engine.close())
        for engine in made.engines:
            engine.server.close()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
        asyncio.set_event_loop(None)
