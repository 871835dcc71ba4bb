"""One request of a client inside the pipeline, from its arrival to its final response.

It is a state machine without I/O: the engine's updates and an ending go in, `advance` says which response is due.
Only the event loop of the pipeline touches it, so a request gets exactly one final response by construction.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from tritonllm import errors
from tritonllm.guardrails import judges
from tritonllm.runtime import answer, backend, judged_input, requests, screening


@dataclasses.dataclass(frozen=True, slots=True)
class Response:
    """A response that is due.

    Args:
        outputs: its output tensors by name; empty if there is an error.
        error: sent in place of outputs.
        final: whether it is the request's last.
    """

    outputs: dict[str, list[Any]]
    error: errors.RequestError | None = None
    final: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """How a request ended, for the metrics. Times are in seconds."""

    outcome: str
    seconds: float
    first_token_seconds: float | None
    inter_token_seconds: float | None
    input_tokens: int
    output_tokens: int
    guardrail_failures: int
    adapter: str | None
    verdicts: list[dict[str, Any]]


class RequestContext:
    """A request that is owed a final response.

    Attributes:
        number: identifies it to the engine.
        sender: takes its responses; see `senders`.
        request: what the client sent, with the endpoint's defaults.
        started: whether a response has been sent.
        queued: whether it is in the queue of requests that have something to send.
        held: whether its sender is in use elsewhere, so that nothing can be sent now.
        timer: its deadline.
        asked: the questions to judges that wait for an answer.
        screened: the request after the matchers of the input rules; None before.
        submitted: whether the engine has received it, or never will.

    Args:
        number: see above.
        sender: see above.
        request: see above.
        arrived: `time.monotonic()` of its arrival.
        policy: its output rules judge the answer; None serves unguarded.
    """

    __slots__ = (
        "_answer",
        "_ending",
        "_first",
        "_input",
        "_latest",
        "_outcome",
        "_policy",
        "_update",
        "arrived",
        "asked",
        "held",
        "number",
        "queued",
        "request",
        "screened",
        "sender",
        "started",
        "submitted",
        "timer",
    )

    def __init__(
        self,
        number: int,
        sender: Any,
        request: requests.Request,
        arrived: float,
        policy: screening.EndpointPolicy | None,
    ) -> None:
        self.number = number
        self.sender = sender
        self.request = request
        self.arrived = arrived
        self.started = False
        self.queued = False
        self.held = False
        self.timer: Any = None
        self.asked: set[Any] = set()
        self.screened: screening.Screened | None = None
        self.submitted = False
        self._policy = policy
        self._input = judged_input.JudgedInput([], ())
        self._answer = answer.Answer(request.sampling.n or 1)
        self._update: backend.Update | None = None
        self._ending: str | errors.RequestError | None = None
        self._first: float | None = None
        self._latest: float | None = None
        self._outcome = ""

    @property
    def ending(self) -> bool:
        """Whether it has been ended by something else than the engine."""
        return self._ending is not None

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, or will never be."""
        return self.ending or self._answer.finished

    def begin(self, screened: screening.Screened) -> None:
        """Applies the outcome of the input rules; from now on the output rules judge the answer."""
        asked = screened.request
        self.screened = screened
        if self._policy is not None and not screened.blocked:
            texts = judged_input.texts(asked) if self._policy.judges["input"] else []
            self._input = judged_input.JudgedInput(texts, self._policy.judges["input"])
        self._answer = answer.Answer(self.request.sampling.n or 1, self._policy, screened)
        if screened.blocked:
            self.end("content_filter")
        elif asked.echo and asked.text is not None:
            self._answer.feed(asked.text)

    @property
    def held_by_judges(self) -> bool:
        """Whether the engine must not receive the prompt yet."""
        return self._input.held

    def questions(self, limit: int) -> list[judges.Question]:
        """The next windows of the prompt and the answer that judges have to decide about, each once."""
        found = self._input.questions(limit)
        return found + self._answer.questions(limit - len(found))

    def judged(self, decided: bool) -> None:
        """Takes note that a question was answered; or not decided, and the policy lets the window pass."""
        if not decided:
            self._answer.skipped += 1
        if self._input.blocked:
            self.end("content_filter")
        self._answer.settle()

    def update(self, update: backend.Update, now: float) -> None:
        """Takes an update from the engine; it waits for `advance`, merged with what waits already."""
        self._first = self._first or now
        self._latest = now
        if self._update is None:
            self._update = update
        else:
            self._update.merge(update)

    def end(self, ending: str | errors.RequestError) -> None:
        """Ends the request with a finish reason or an error, unless it has been ended already."""
        if self._ending is None:
            self._ending = ending

    def advance(self) -> Response | None:
        """Applies the output rules to what is new.

        Returns:
            The response that is due; None if there is nothing to send yet.
        """
        update, self._update = self._update, None
        try:
            if update is not None:
                self._answer.update(update)
            if self._input.blocked:
                self._answer.block()
            if self._answer.finished and not self._input.undecided:
                # What the engine or a rule has finished stays finished, whatever else would have ended it.
                return self._finish()
            if isinstance(self._ending, errors.RequestError):
                return self.fail(self._ending)
            if self._ending is not None:
                self._answer.end(self._ending)
                return self._finish(self._ending)
        except errors.RequestError as error:
            return self.fail(error)
        if not self.request.stream:
            return None
        if not self._answer.pending and (update is None or not self.request.wants("logprobs")):
            return None
        return Response(self._answer.outputs(self.request, last=False))

    def fail(self, error: errors.RequestError) -> Response:
        """The final response of a request that ends with an error."""
        if self.request.text is not None and error.field == "messages":
            # The client sent a prompt; that this endpoint makes a conversation of it is not its concern.
            error = errors.RequestError(error.code, "text_input", error.message)
        return Response({}, error, final=True)

    def summary(self, response: Response, now: float) -> Summary:
        """What the metrics want to know after the final response."""
        spent = self._latest and self._first and self._latest - self._first
        tokens = self._answer.output_tokens
        return Summary(
            outcome=response.error.code if response.error else self._outcome,
            seconds=now - self.arrived,
            first_token_seconds=self._first and self._first - self.arrived,
            inter_token_seconds=spent / (tokens - 1) if spent and tokens > 1 else None,
            input_tokens=self._answer.input_tokens,
            output_tokens=tokens,
            guardrail_failures=self._answer.failures,
            adapter=self.request.adapter,
            verdicts=self._verdicts(),
        )

    def _finish(self, outcome: str = "") -> Response:
        outputs = self._answer.outputs(self.request, last=True)
        if self._policy is not None:
            outputs["guardrail"] = [json.dumps(self._verdicts())]
        self._outcome = outcome or outputs["finish_reason"][0]
        return Response(outputs, final=True)

    def _verdicts(self) -> list[dict[str, Any]]:
        return self._input.verdicts() + self._answer.verdicts()
