"""The public model of an endpoint: rules on the way in, the engine, rules on the way out.

Requests come through Triton, and from the gateway over the private stream; the `dispatcher` owns them from their arrival
on. Decoupled, because a model that is not answers one request at a time.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from typing import Any

from tritonllm import errors, finish_reasons
from tritonllm.ipc import context_length, engine_address, names
from tritonllm.render import canonical
from tritonllm.runtime import (
    classifier_calls,
    dispatcher,
    endpoint_adapters,
    judging,
    leases,
    logs,
    metric_names,
    metrics,
    pipeline_server,
    request_context,
    requests,
    screening,
    senders,
    settings,
    siblings,
    threads,
    wire,
)

OUTCOMES = (*finish_reasons.MEANINGS, *errors.CODES)

DESCRIBE = "adapters"
"""Private parameter of a request that is answered with how the adapters are; see `endpoint_adapters.Description`."""

# How long a thread that computes can keep the dispatcher from running.
_SWITCH_SECONDS = 0.001
# They look for a pipeline that announces itself at once, unless they are starting.
_GATEWAY_SECONDS = 1.0
# Each is read from the disk and copied to every worker of the engine, one after another. Then the endpoint is served
# with those that are loaded, and the others follow.
_ADAPTERS_SECONDS = 60.0
# Beyond the deadline of a request, for its last response to reach the gateway.
_LAST_SECONDS = 5.0


class TritonPythonModel:
    """Triton's entry point; see python_backend's `TritonPythonModel`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Reads the endpoint from the model's config."""
        parameters = wire.config_parameters(args)
        logs.name(args["model_name"])
        sys.setswitchinterval(_SWITCH_SECONDS)
        self.settings = settings.Settings.load(parameters["settings"])
        self.policy = screening.EndpointPolicy.load(parameters["policy"], self.settings.prompt_characters)
        # A garbage collection of all that was loaded would take longer than the rules do in a step.
        gc.freeze()
        gc.enable()
        self.meter = metrics.Meter(
            parameters["endpoint"], metric_names.PIPELINE, _series(self.policy, _names(parameters))
        )
        if siblings.is_only_instance():
            # A process that was killed has left its requests in them.
            self.meter.zero(metric_names.RUNNING, metric_names.WAITING)
        self.meter.set(metric_names.CAPACITY, self.settings.capacity)
        self.events = events = threads.EventLoop("dispatcher")
        self.dispatcher = dispatcher.Dispatcher(
            events,
            self.settings.limits,
            self.policy,
            self.settings.compose,
            self._count,
            self._ended,
            self._refused,
        )
        owner = leases.owner()
        self.judging = judge = judging.Judging(
            events.loop, classifier_calls.TritonClassifiers(self.policy.classifiers), self._on_judgement
        )
        self.dispatcher.start(leases.TritonLeases(parameters["engine_model"], owner), owner, judge)
        self.adapters = endpoint_adapters.EndpointAdapters(
            parameters["endpoint"], parameters.get("adapters", ""), self._on_adapters
        )
        self.server = pipeline_server.PipelineServer(
            events,
            self.dispatcher,
            self._parse,
            self.policy,
            judge,
            _description(parameters, self.policy),
        )
        if self.adapters.wanted:
            events.result(self._load_adapters(parameters["engine_model"]))
        events.result(self._listen())
        events.watch()

    def execute(self, triton_requests: list[Any]) -> None:
        """Takes requests; each is answered later through its own sender."""
        wire.receive(triton_requests, self._accept, self._refuse)

    def finalize(self) -> None:
        """Ends the threads; Triton calls it when the last of its own requests is answered."""
        self.events.result(self._close())
        self.dispatcher.close()
        self.meter.close()

    async def _load_adapters(self, engine: str) -> None:
        self.dispatcher.follow(self.adapters, lambda: engine_address.read(engine))
        # Otherwise the first request finds the engine.
        if engine_address.read(engine) is not None:
            await self.adapters.wait(_ADAPTERS_SECONDS)

    def _on_adapters(self) -> None:
        """Tells the gateways which adapters can be asked now."""
        self.server.describe({**self.server.description, "adapters": self.adapters.ready})

    async def _listen(self) -> None:
        await self.server.start()
        gateways = int(os.environ.get(names.GATEWAY_PROCESSES, "0"))
        await self.server.wait_for_gateways(gateways, _GATEWAY_SECONDS)

    async def _close(self) -> None:
        self.judging.leave()
        await self.server.drain(self.settings.limits.request_timeout_seconds + _LAST_SECONDS)
        self.server.close()

    def _accept(self, triton_request: Any, sender: Any) -> None:
        arrived = time.monotonic()
        public, private = wire.parameters(triton_request)
        if DESCRIBE in private:
            wire.send(sender, {"text_output": [json.dumps(self.adapters.states)]}, final=True)
            return
        values = wire.values(triton_request)
        try:
            asked = self._parse(values, public)
        except errors.RequestError as error:
            # Without any input it is the supervisor's probe, and not a client's mistake to be counted.
            self.dispatcher.refuse(senders.TritonSender(sender), error, counted=bool(values))
            return
        self.dispatcher.submit(senders.TritonSender(sender), asked, arrived)

    def _refuse(self, sender: Any, error: errors.RequestError) -> None:
        self.dispatcher.refuse(senders.TritonSender(sender), error)

    def _parse(
        self, values: dict[str, str | bool], parameters: dict[str, Any] | None = None
    ) -> requests.Request:
        request = requests.parse(values, parameters or {})
        if request.adapter is not None:
            self.adapters.check(request.adapter)
        return self.settings.admit(request, self.policy)

    def _count(self, running: int, waiting: int) -> None:
        self.meter.add(metric_names.RUNNING, running)
        self.meter.add(metric_names.WAITING, waiting)

    def _on_judgement(self, judgement: judging.Judgement) -> None:
        for rule in judgement.judge.rules:
            direction = judgement.judge.direction
            outcome = judgement.problem or ("match" if rule.name in judgement.matching else "pass")
            self.meter.add(metric_names.JUDGEMENTS, rule=rule.name, direction=direction, outcome=outcome)
            self.meter.observe(metric_names.JUDGEMENT, judgement.seconds, rule=rule.name, direction=direction)

    def _refused(self, error: errors.RequestError) -> None:
        self.meter.add(metric_names.REQUESTS, outcome=error.code)
        self.meter.add(metric_names.REJECTIONS, reason=error.code)

    def _ended(self, summary: request_context.Summary) -> None:
        meter = self.meter
        meter.add(metric_names.REQUESTS, outcome=summary.outcome)
        if summary.adapter is not None:
            meter.add(metric_names.ADAPTER_REQUESTS, adapter=summary.adapter, outcome=summary.outcome)
            meter.add(metric_names.ADAPTER_OUTPUT_TOKENS, summary.output_tokens, adapter=summary.adapter)
        meter.add(metric_names.INPUT_TOKENS, summary.input_tokens)
        meter.add(metric_names.OUTPUT_TOKENS, summary.output_tokens)
        meter.observe(metric_names.DURATION, summary.seconds)
        if summary.first_token_seconds is not None:
            meter.observe(metric_names.FIRST_TOKEN, summary.first_token_seconds)
        if summary.inter_token_seconds is not None:
            meter.observe(metric_names.INTER_TOKEN, summary.inter_token_seconds)
        failures = summary.guardrail_failures + (summary.outcome == "guardrail_failure")
        meter.add(metric_names.GUARDRAIL_FAILURES, failures)
        for verdict in summary.verdicts:
            labels = {key: verdict[key] for key in ("rule", "action", "direction")}
            meter.add(metric_names.VERDICTS, verdict["count"], **labels)


def _description(parameters: dict[str, str], policy: screening.EndpointPolicy) -> dict[str, Any]:
    """What gateways are told of the endpoint; processes with the same `spec_hash` serve the same."""
    return {
        "name": parameters["endpoint"],
        "spec_hash": parameters["spec_hash"],
        "created": time.time(),
        "policy": canonical.digest(canonical.unpack(parameters["policy"])),
        "refusal": policy.rules.refusal,
        "context": context_length.read(parameters["engine_model"]),
        "adapters": [],
    }


def _names(parameters: dict[str, str]) -> list[str]:
    return [each["name"] for each in json.loads(parameters.get("adapters", "[]"))]


def _series(policy: screening.EndpointPolicy, adapters: list[str]) -> dict[str, list[dict[str, str]]]:
    judged = [
        {"rule": rule.name, "direction": direction}
        for direction, found in policy.judges.items()
        for judge in found
        for rule in judge.rules
    ]
    return {
        metric_names.REQUESTS: [{"outcome": outcome} for outcome in OUTCOMES],
        metric_names.ADAPTER_REQUESTS: [
            {"adapter": name, "outcome": outcome} for name in adapters for outcome in finish_reasons.MEANINGS
        ],
        metric_names.ADAPTER_OUTPUT_TOKENS: [{"adapter": name} for name in adapters],
        metric_names.REJECTIONS: [{"reason": code} for code in ("invalid_argument", "queue_full")],
        metric_names.VERDICTS: [
            {"rule": rule.name, "action": rule.action, "direction": direction}
            for direction, rules in (("input", policy.rules.input), ("output", policy.rules.output))
            for rule in rules
        ],
        metric_names.JUDGEMENTS: [
            labels | {"outcome": outcome} for labels in judged for outcome in judging.OUTCOMES
        ],
        metric_names.JUDGEMENT: judged,
    }
