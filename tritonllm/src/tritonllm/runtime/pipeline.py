"""The public model of an endpoint: rules on the way in, the engine, rules on the way out.

Decoupled, because a model that is not answers one request at a time. Every admitted request runs in a
thread of its own that blocks on the engine's stream; a watcher ends what outlives its deadline or its
client. The engine is always asked to stream, so that a request can be stopped at any time.
"""

from __future__ import annotations

import functools
import logging
import time
from typing import Any

from tritonllm import errors, finish_reasons
from tritonllm.runtime import (
    admission,
    answer,
    call,
    link,
    logs,
    metric_names,
    metrics,
    requests,
    screening,
    settings,
    siblings,
    watcher,
    wire,
)

log = logging.getLogger(__name__)

OUTCOMES = (*finish_reasons.MEANINGS, *errors.CODES)


class TritonPythonModel:
    """Triton's entry point; see python_backend's `TritonPythonModel`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Reads the endpoint from the model's config."""
        parameters = wire.config_parameters(args)
        logs.name(args["model_name"])
        self.settings = settings.Settings.load(parameters["settings"])
        self.policy = screening.Policy.load(parameters["policy"])
        self.meter = metrics.Meter(parameters["endpoint"], metric_names.PIPELINE, _series(self.policy))
        if siblings.alone():
            # A process that was killed has left its requests in them.
            self.meter.zero(metric_names.RUNNING, metric_names.WAITING)
        self.meter.set(metric_names.CAPACITY, self.settings.capacity)
        self.engine = link.Engine(parameters["engine_model"])
        self.watcher = watcher.Watcher(self.engine)
        limits = self.settings.limits
        self.gate = admission.Gate(limits.max_concurrent_requests, limits.max_queued_requests, self._count)

    def execute(self, triton_requests: list[Any]) -> None:
        """Takes requests; each is answered later through its own sender."""
        wire.receive(triton_requests, self._accept, self._refuse)

    def finalize(self) -> None:
        """Ends the threads; Triton calls it when the last request is answered."""
        self.gate.close()
        self.watcher.close()
        self.engine.close()
        self.meter.close()

    def _accept(self, triton_request: Any, sender: Any) -> None:
        arrived = time.monotonic()
        public, _ = wire.parameters(triton_request)
        asked = requests.parse(wire.values(triton_request), public)
        asked = self.settings.admit(asked, self.policy)
        deadline = arrived + self.settings.limits.request_timeout_seconds
        accepted = call.Call(sender, asked, arrived, deadline, self._record)
        self.gate.submit(functools.partial(self._run, accepted))
        self.watcher.watch(accepted)

    def _refuse(self, sender: Any, error: errors.RequestError) -> None:
        self.meter.add(metric_names.REQUESTS, outcome=error.code)
        self.meter.add(metric_names.REJECTIONS, reason=error.code)
        wire.send_last(sender, wire.error(error))

    def _run(self, accepted: call.Call) -> None:
        try:
            self._serve(accepted)
        except errors.RequestError as error:
            if accepted.request.text is not None and error.field == "messages":
                # The caller sent a prompt; that this endpoint makes a conversation of it is its own affair.
                error = errors.RequestError(error.code, "text_input", error.message)
            accepted.fail(error)
        except Exception as error:
            log.exception("a request failed")
            accepted.fail(errors.RequestError("internal", "", f"the pipeline failed: {error!r}"))

    def _serve(self, accepted: call.Call) -> None:
        screened = screening.screen(accepted.request, self.policy)
        asked = screened.request
        if not accepted.begin(answer.Answer(asked.sampling.n or 1, self.policy, screened)):
            return
        if screened.blocked:
            accepted.end("content_filter")
            return
        if asked.echo and asked.text is not None:
            accepted.prepend(asked.text)
        for update in self.engine.generate(accepted.id, self.settings.compose(asked)):
            if not accepted.update(update) and not update.finished:
                self.engine.stop(accepted.id)
        accepted.fail(
            errors.RequestError("engine_failure", "", "the engine ended its answer without a reason")
        )

    def _count(self, running: int, waiting: int) -> None:
        self.meter.add(metric_names.RUNNING, running)
        self.meter.add(metric_names.WAITING, waiting)

    def _record(self, ending: call.Ending) -> None:
        meter = self.meter
        meter.add(metric_names.REQUESTS, outcome=ending.outcome)
        meter.add(metric_names.INPUT_TOKENS, ending.input_tokens)
        meter.add(metric_names.OUTPUT_TOKENS, ending.output_tokens)
        meter.observe(metric_names.DURATION, ending.seconds)
        if ending.first_token_seconds is not None:
            meter.observe(metric_names.FIRST_TOKEN, ending.first_token_seconds)
        if ending.inter_token_seconds is not None:
            meter.observe(metric_names.INTER_TOKEN, ending.inter_token_seconds)
        failures = ending.guardrail_failures + (ending.outcome == "guardrail_failure")
        meter.add(metric_names.GUARDRAIL_FAILURES, failures)
        for verdict in ending.verdicts:
            labels = {key: verdict[key] for key in ("rule", "action", "direction")}
            meter.add(metric_names.VERDICTS, verdict["count"], **labels)


def _series(policy: screening.Policy) -> dict[str, list[dict[str, str]]]:
    return {
        metric_names.REQUESTS: [{"outcome": outcome} for outcome in OUTCOMES],
        metric_names.REJECTIONS: [{"reason": code} for code in ("invalid_argument", "queue_full")],
        metric_names.VERDICTS: [
            {"rule": rule.name, "action": rule.action, "direction": direction}
            for direction, rules in (("input", policy.rules.input), ("output", policy.rules.output))
            for rule in rules
        ],
    }
