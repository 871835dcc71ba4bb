"""The thread that runs a causal model: one step of all running sequences at a time, joins and leaves between steps.

It alone touches the model and its KV cache. Requests come through a queue; what is new goes out by a callback. An
exception ends it, and every request with it.
"""

from __future__ import annotations

import collections
import logging
import queue
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch

from tritonllm.runtime import answer_text, backend, causal_model, token_sampling

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Choice:
    """One answer of a request.

    Attributes:
        sampler: chooses its tokens.
        text: of its tokens.
        tokens: ids of prompt and answer.
        finish_reason: None while it goes on.
    """

    sampler: token_sampling.Sampler
    text: answer_text.AnswerText
    tokens: list[int]
    finish_reason: str | None = None
    cumulative_logprob: float = 0.0


@dataclass(slots=True, eq=False)
class Request:
    """What to generate.

    Attributes:
        id: unique among the live ones.
        prompt: token ids.
        choices: at least one.
        max_tokens: of each choice.
        stop_tokens: end an answer, and are not part of its text.
        include_stop: whether they are.
        decode: makes text of a token for its log probability, also of special ones.
        logprobs: number of alternatives to return log probabilities of; None for none at all.
    """

    id: str
    prompt: list[int]
    choices: list[Choice]
    max_tokens: int
    stop_tokens: Collection[int]
    include_stop: bool
    decode: Callable[[list[int]], str]
    logprobs: int | None = None

    @property
    def length(self) -> int:
        """Maximum number of tokens of a choice, prompt included."""
        return len(self.prompt) + self.max_tokens


Event = tuple[str, backend.Update]
"""The id of a request and what is new."""


@dataclass(slots=True, eq=False)
class _Running:
    """Sequences that have a batch in common.

    Attributes:
        batch: of the model.
        rows: request and index of its choice, for each sequence.
    """

    batch: causal_model.Batch
    rows: list[tuple[Request, int]]


class Batcher:
    """Runs requests, in the order in which they come.

    Args:
        model: what is run.
        max_sequences: maximum number of sequences at once.
        max_tokens: maximum number of tokens in the KV cache; a request that needs more by itself must not be submitted.
        deliver: called in the batcher's thread with what each step has made.
        fail: called in the batcher's thread when an exception has ended it.

    Attributes:
        steps: number of steps so far.
        used: share of the KV cache's tokens in use.
        failure: the exception that ended the thread; None while it runs.
    """

    def __init__(
        self,
        model: causal_model.CausalModel,
        *,
        max_sequences: int,
        max_tokens: int,
        deliver: Callable[[list[Event]], object],
        fail: Callable[[], object],
    ) -> None:
        self.steps = 0
        self.used = 0.0
        self.failure: Exception | None = None
        self._model = model
        self._max_sequences = max_sequences
        self._max_tokens = max_tokens
        self._deliver = deliver
        self._fail = fail
        # None ends the thread.
        self._commands: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._waiting: collections.deque[Request] = collections.deque()
        self._running: list[_Running] = []

    def submit(self, request: Request) -> None:
        """Runs a request as soon as there is room; from any thread."""
        self._commands.put(lambda: self._waiting.append(request))

    def abort(self, request_id: str) -> None:
        """Ends a request, if it is there; from any thread."""
        self._commands.put(lambda: self._drop(request_id))

    def close(self) -> None:
        """Ends the thread after its current step; from any thread."""
        self._commands.put(None)

    def run(self) -> None:
        """The thread: returns when it is closed or has failed."""
        try:
            with torch.inference_mode():
                while self._take_commands():
                    self._turn()
        except Exception as error:
            log.critical("the model has failed", exc_info=True)
            self.failure = error
            self._fail()

    def _take_commands(self) -> bool:
        """Waits for one if there is nothing else to do. False to end."""
        while not (self._waiting or self._running) or not self._commands.empty():
            command = self._commands.get()
            if command is None:
                return False
            command()
        return True

    def _turn(self) -> None:
        """Starts one request, then makes one token for each running sequence.

        One, so that running answers wait for one prompt at a time.
        """
        events: list[Event] = []
        if self._waiting and self._has_room(self._waiting[0]):
            events += self._start(self._waiting.popleft())
        for running in list(self._running):
            tokens = [request.choices[index].tokens[-1] for request, index in running.rows]
            logits = running.batch.step(tokens)
            self.steps += 1
            events += self._advance(running, logits)
        self.used = sum(len(each.rows) * max(each.batch.lengths) for each in self._running) / self._max_tokens
        if events:
            self._deliver(events)

    def _has_room(self, request: Request) -> bool:
        """Whether a request can run beside the others until all of them have ended, with the cache padded to the longest."""
        others = [other for running in self._running for other, _ in running.rows]
        sequences = len(others) + len(request.choices)
        longest = max(each.length for each in (request, *others))
        return sequences <= self._max_sequences and sequences * longest <= self._max_tokens

    def _start(self, request: Request) -> list[Event]:
        batch, logits = self._model.start(request.prompt, self._count_step)
        choices = range(len(request.choices))
        if len(choices) > 1:
            batch.select([0 for _ in choices])
            logits = logits.expand(len(choices), -1)
        running = _Running(batch, [(request, index) for index in choices])
        self._running.append(running)
        events = self._advance(running, logits)
        if self._model.joins and len(self._running) > 1 and running.rows:
            self._running.remove(running)
            self._running[0].batch.join(running.batch)
            self._running[0].rows += running.rows
        return events

    def _count_step(self) -> None:
        self.steps += 1

    def _advance(self, running: _Running, logits: torch.Tensor) -> list[Event]:
        """Chooses the next token of each sequence; those that end leave."""
        rows = running.rows
        chosen = torch.stack(
            [
                request.choices[index].sampler.choose(request.choices[index].tokens, scores)
                for (request, index), scores in zip(rows, logits, strict=True)
            ]
        ).tolist()
        updates: dict[str, backend.Update] = {}
        for (request, index), token, scores in zip(rows, chosen, logits, strict=True):
            update = updates.get(request.id)
            if update is None:
                update = updates[request.id] = _nothing_new(request)
            _append(request, index, token, scores, update)
        self._keep(running, [request.choices[index].finish_reason is None for request, index in rows])
        return list(updates.items())

    def _drop(self, request_id: str) -> None:
        self._waiting = collections.deque(each for each in self._waiting if each.id != request_id)
        for running in list(self._running):
            self._keep(running, [request.id != request_id for request, _ in running.rows])

    def _keep(self, running: _Running, kept: list[bool]) -> None:
        if all(kept):
            return
        rows = [row for row, keep in enumerate(kept) if keep]
        running.rows = [running.rows[row] for row in rows]
        if rows:
            running.batch.select(rows)
        else:
            self._running.remove(running)


def _nothing_new(request: Request) -> backend.Update:
    choices = request.choices
    update = backend.Update(
        [""] * len(choices), [each.finish_reason for each in choices], len(request.prompt), [0] * len(choices)
    )
    if request.logprobs is not None:
        update.logprobs = [[] for _ in choices]
        update.cumulative_logprobs = [each.cumulative_logprob for each in choices]
    return update


def _append(request: Request, index: int, token: int, logits: torch.Tensor, update: backend.Update) -> None:
    """Appends a token to an answer, and what is new to the update."""
    choice = request.choices[index]
    choice.tokens.append(token)
    is_stop = token in request.stop_tokens
    # As in vLLM, a token that ends the answer is counted and not shown.
    found = (not is_stop or request.include_stop) and choice.text.add(token)
    if is_stop or found:
        choice.finish_reason = "stop"
    elif len(choice.tokens) >= request.length:
        choice.finish_reason = "length"
    update.texts[index] = choice.text.take(ended=choice.finish_reason is not None)
    update.finish_reasons[index] = choice.finish_reason
    update.output_tokens[index] = 1
    if request.logprobs is not None:
        assert update.logprobs is not None
        assert update.cumulative_logprobs is not None
        found_logprobs = token_sampling.logprobs(logits, token, request.logprobs, request.decode)
        choice.cumulative_logprob += found_logprobs[token]["logprob"]
        update.logprobs[index] = [found_logprobs]
        update.cumulative_logprobs[index] = choice.cumulative_logprob
