"""The dispatcher: one event loop that owns every request of a pipeline, from its arrival to its final response.

Admission, deadlines, cancellation, rules and sending happen in this loop, so no request needs a lock. It sends
inline: requests with something new wait in a queue, the loop works on a few of them, then reads from the engine
again. What arrives meanwhile for a request that still waits is merged before the rules run. That is the whole
pacing: every token is sent on its own while there is time for it, and several together when there is not.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import itertools
import logging
import math
from collections.abc import Callable
from concurrent import futures

from tritonllm import errors, pipeline_spec
from tritonllm.guardrails import judges
from tritonllm.runtime import (
    admission,
    backend,
    endpoint_adapters,
    engine_client,
    judging,
    request_context,
    requests,
    screening,
    senders,
    threads,
)

log = logging.getLogger(__name__)

# Responses between two looks at the engine's socket.
_BATCH = 8
# A thread switch costs more than applying the rules to anything shorter.
_INLINE_CHARACTERS = 2000
# Every live request is asked once in this time whether its client is gone, some of them at a time: a round trip to
# tritonserver each.
CANCELLATION_SECONDS = 0.75
_CANCELLATION_BATCH = 8
_CANCELLATION_BATCHES = 5

Compose = Callable[[requests.Request], requests.Request]


class Dispatcher:
    """Answers requests by an engine and a policy.

    Args:
        events: the event loop, in a thread of its own; closed with the dispatcher.
        limits: of the endpoint.
        policy: its rules; None serves unguarded.
        compose: makes the engine's prompt of a request after the input rules.
        count: called with changes of the number of requests running and waiting.
        on_end: called with how each request ended.
        on_refusal: called with the error of each request that was refused.
    """

    def __init__(
        self,
        events: threads.EventLoop,
        limits: pipeline_spec.Limits,
        policy: screening.EndpointPolicy | None,
        compose: Compose,
        count: Callable[[int, int], None],
        on_end: Callable[[request_context.Summary], None],
        on_refusal: Callable[[errors.RequestError], None],
    ) -> None:
        self._events = events
        self._loop = events.loop
        self._limits = limits
        self._policy = policy
        self._compose = compose
        self._on_end = on_end
        self._on_refusal = on_refusal
        self._numbers = itertools.count(1)
        self._queue: admission.AdmissionQueue[request_context.RequestContext] = admission.AdmissionQueue(
            _share(limits.max_concurrent_requests, limits), _share(limits.max_queued_requests, limits), count
        )
        self._live: dict[int, request_context.RequestContext] = {}
        # Those to whom nothing has been sent yet go first.
        self._first: collections.deque[request_context.RequestContext] = collections.deque()
        self._ready: collections.deque[request_context.RequestContext] = collections.deque()
        self._sending = False
        self._unchecked: collections.deque[request_context.RequestContext] = collections.deque()
        self._screening = futures.ThreadPoolExecutor(2, thread_name_prefix="screening")
        self._cancellation = futures.ThreadPoolExecutor(1, thread_name_prefix="cancellation")
        self._engine: engine_client.EngineClient
        self._judging: judging.Judging | None = None

    def start(self, leases: engine_client.Leases, owner: str, judge: judging.Judging | None = None) -> None:
        """Begins to serve.

        Args:
            leases: of the engine.
            owner: identifies this process to the engine.
            judge: asks the classifiers; None if no rule does.
        """
        self._judging = judge
        self._engine = engine_client.EngineClient(self._loop, leases, self._on_update, self._on_error, owner)
        self._events.call(self._check_cancellations)

    def follow(self, adapters: endpoint_adapters.EndpointAdapters, address: Callable[[], str | None]) -> None:
        """Has the engine load adapters; for the event loop. See `EngineClient.follow`."""
        self._engine.follow(adapters, address)

    def submit(self, sender: senders.Sender, request: requests.Request, arrived: float) -> None:
        """Takes a request; for other threads.

        Args:
            sender: takes its responses.
            request: within the endpoint's limits.
            arrived: `time.monotonic()` of its arrival.
        """
        self._events.call(self.accept, sender, request, arrived)

    def accept(
        self, sender: senders.Sender, request: requests.Request, arrived: float
    ) -> request_context.RequestContext | None:
        """Takes a request, as `submit` does; for the event loop.

        Returns:
            The request; None if it has been refused.
        """
        context = request_context.RequestContext(next(self._numbers), sender, request, arrived, self._policy)
        return context if self._admit(context) else None

    def cancel(self, context: request_context.RequestContext) -> None:
        """Ends a request whose client is gone; for the event loop."""
        self._end(context, "cancelled")

    def resume(self, context: request_context.RequestContext) -> None:
        """Goes on with a request whose sender was congested; for the event loop."""
        if context.number in self._live:
            self._enqueue(context)

    def give_back(self) -> None:
        """Returns the requests that are not at the engine yet to the gateways that sent them; for the event loop.

        Once Triton has begun to end a model, it does not answer calls any more, so none could get a lease.
        """
        for context in list(self._live.values()):
            if context.sender.polled or context.finished or context.started:
                continue
            if self._engine.has(context.number):
                continue
            del self._live[context.number]
            context.timer.cancel()
            judging.withdraw(context.asked)
            self._engine.abort(context.number)
            # What follows is given back as well.
            self._queue.leave(context)
            context.sender.give_back()

    def refuse(self, sender: senders.Sender, error: errors.RequestError, *, counted: bool = True) -> None:
        """Answers a request with an error, in the loop, so that a probe detects a loop that is stuck; for other threads.

        Args:
            sender: takes the error.
            error: why the request is refused.
            counted: whether it counts as a refusal.
        """
        self._events.call(self._send_error, sender, error, counted)

    def close(self) -> None:
        """Ends the loop; call it when every request has had its final response."""
        self._events.result(self._engine.close())
        if self._judging is not None:
            self._judging.close()
        self._screening.shutdown()
        self._cancellation.shutdown()
        self._events.close()

    # A request's way, in order.

    def _admit(self, context: request_context.RequestContext) -> bool:
        try:
            at_once = self._queue.enter(context)
        except errors.RequestError as error:
            self._send_error(context.sender, error)
            return False
        self._live[context.number] = context
        delay = context.arrived + self._limits.request_timeout_seconds - self._loop.time()
        context.timer = self._loop.call_later(delay, self._end, context, "timeout")
        if at_once:
            self._screen(context)
        return True

    def _screen(self, context: request_context.RequestContext) -> None:
        if context.request.characters <= _INLINE_CHARACTERS:
            self._begin(context, lambda: screening.screen(context.request, self._policy))
            return
        job = self._loop.run_in_executor(
            self._screening,
            screening.screen,
            context.request,
            self._policy,
            lambda: context.number not in self._live,
        )
        job.add_done_callback(lambda done: self._begin(context, done.result))

    def _begin(
        self, context: request_context.RequestContext, screened: Callable[[], screening.Screened]
    ) -> None:
        try:
            result = screened()
            if context.number not in self._live:
                return
            context.begin(result)
            self._judge(context)
            self._proceed(context)
        except Exception as error:
            self._end(context, _problem(error))

    def _proceed(self, context: request_context.RequestContext) -> None:
        """Submits a request whose prompt may reach the engine; what else is due is sent."""
        if context.screened is not None and not context.submitted and not context.held_by_judges:
            context.submitted = True
            if not context.finished:
                self._engine.submit(context.number, self._compose(context.screened.request))
        self._enqueue(context)

    def _judge(self, context: request_context.RequestContext) -> None:
        """Asks the classifiers about what is new."""
        if self._judging is None:
            return
        for question in context.questions(judging.WINDOWS_AT_ONCE - len(context.asked)):
            answer = self._judging.ask(question)
            context.asked.add(answer)
            judged = functools.partial(self._judged, context, question, self._loop.time())
            answer.add_done_callback(judged)

    def _judged(
        self,
        context: request_context.RequestContext,
        question: judges.Question,
        asked: float,
        answer: asyncio.Future[judging.Scores],
    ) -> None:
        context.asked.discard(answer)
        if answer.cancelled() or context.number not in self._live:
            return
        assert self._judging is not None
        assert self._policy is not None
        try:
            context.judged(self._judging.decide(self._policy, question, answer, asked))
            self._judge(context)
            self._proceed(context)
        except Exception as error:
            self._end(context, _problem(error))

    def _on_update(self, number: int, update: backend.Update) -> None:
        context = self._live.get(number)
        if context is not None:
            context.update(update, self._loop.time())
            self._enqueue(context)

    def _on_error(self, number: int, error: errors.RequestError) -> None:
        context = self._live.get(number)
        if context is not None:
            self._end(context, error)

    def _end(self, context: request_context.RequestContext, ending: str | errors.RequestError) -> None:
        if context.number in self._live:
            context.end(ending)
            self._enqueue(context)

    # Sending.

    def _enqueue(self, context: request_context.RequestContext) -> None:
        if context.queued or context.held or _waits(context):
            return
        context.queued = True
        (self._ready if context.started else self._first).append(context)
        if not self._sending:
            self._sending = True
            self._loop.call_soon(self._send_some)

    def _send_some(self) -> None:
        for _ in range(_BATCH):
            waiting = self._first or self._ready
            if not waiting:
                break
            context = waiting.popleft()
            context.queued = False
            if not context.held and not _waits(context):
                self._advance(context)
        self._sending = bool(self._first or self._ready)
        if self._sending:
            self._loop.call_soon(self._send_some)

    def _advance(self, context: request_context.RequestContext) -> None:
        try:
            response = context.advance()
            self._judge(context)
        except Exception as error:
            response = context.fail(_problem(error))
        if response is None:
            return
        context.started = True
        try:
            context.sender.send(response)
        except Exception:
            # Shared memory is full, or Triton refuses the response: what is left is to end the request.
            log.exception("a response could not be sent")
            error = errors.RequestError(
                "internal", "", "a response could not be sent; see the log of the pod"
            )
            response = context.fail(error)
            context.sender.close(error)
        if response.final:
            self._leave(context, response)

    def _leave(self, context: request_context.RequestContext, response: request_context.Response) -> None:
        del self._live[context.number]
        context.timer.cancel()
        judging.withdraw(context.asked)
        self._engine.abort(context.number)
        self._on_end(context.summary(response, self._loop.time()))
        following = self._queue.leave(context)
        if following is not None:
            self._screen(following)

    def _send_error(self, sender: senders.Sender, error: errors.RequestError, counted: bool = True) -> None:
        if counted:
            self._on_refusal(error)
        sender.close(error)

    # Cancellation.

    def _check_cancellations(self) -> None:
        """Asks Triton about some requests whether their clients are gone.

        The question waits for an answer from tritonserver, so another thread asks it. Meanwhile nothing is sent to
        these requests: Triton 24.10 crashes if a sender is closed while it is asked.
        """
        if not self._unchecked:
            self._unchecked.extend(context for context in self._live.values() if context.sender.polled)
        batches = max(_CANCELLATION_BATCHES, math.ceil(len(self._live) / _CANCELLATION_BATCH))
        self._loop.call_later(CANCELLATION_SECONDS / batches, self._check_cancellations)
        batch: list[request_context.RequestContext] = []
        while self._unchecked and len(batch) < _CANCELLATION_BATCH:
            context = self._unchecked.popleft()
            # workaround: W17
            # One that is still held has been asked before, and its answer is on the way.
            if context.number in self._live and not context.held:
                context.held = True
                batch.append(context)
        if batch:
            job = self._loop.run_in_executor(self._cancellation, _cancelled, batch)
            job.add_done_callback(lambda done: self._checked(batch, done))

    def _checked(self, batch: list[request_context.RequestContext], job: asyncio.Future[list[bool]]) -> None:
        if error := job.exception():
            log.error("clients that are gone could not be detected", exc_info=error)
        for context, cancelled in zip(batch, [] if error else job.result(), strict=False):
            if cancelled:
                context.end("cancelled")
        for context in batch:
            context.held = False
            self._enqueue(context)


def _waits(context: request_context.RequestContext) -> bool:
    """Whether it has to wait for its sender. Not if it is to end: it would keep its place from others."""
    return context.sender.congested and not context.ending


def _cancelled(batch: list[request_context.RequestContext]) -> list[bool]:
    return [context.sender.is_cancelled() for context in batch]


def _share(limit: int, limits: pipeline_spec.Limits) -> int:
    """The part of a limit of the endpoint that is this process's; Triton gives requests to all of them alike."""
    return math.ceil(limit / limits.pipeline_instances)


def _problem(error: BaseException) -> errors.RequestError:
    if isinstance(error, errors.RequestError):
        return error
    log.error("a request failed", exc_info=error)
    return errors.RequestError("internal", "", f"the pipeline failed: {error!r}")
