"""What `/readyz` and `/livez` answer, in sentences: decided here, served by `health_port`.

Triton's own probes are not sufficient: 24.10 reports a model as ready whose process is dead, and one model that failed
to load makes the whole server unready.
"""
# workaround: W1
# workaround: W9

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType

from tritonllm.serve.model_states import BUSY, ModelStatus, Phase

# Longer than anything that a healthy pipeline does without letting its other requests proceed: checking the longest
# prompt takes it about ten seconds.
STUCK_SECONDS = 30.0

NO_ENDPOINTS = "no endpoints yet; models loaded by other clients are served"

ProbeResult = tuple[bool, Sequence[str]]
"""Whether the probe succeeds, and sentences that say why or why not."""


def readiness(
    required: Mapping[str, Sequence[str]],
    statuses: Mapping[str, ModelStatus],
    triton_ready: Callable[[str], bool],
    now: float,
    gating: Collection[str] = (),
    progress: Callable[[ModelStatus], str] = lambda status: "",
    unreadable: Mapping[str, str] = MappingProxyType({}),
) -> ProbeResult:
    """Whether requests should be sent here.

    Not ready while a model is being loaded or reloaded. A model that failed, or that another client unloaded, is only
    named, because it must not keep requests from the other endpoints; it makes the pod unready if nothing else is
    served, or if its endpoint is gating.

    Args:
        required: the models of each endpoint to serve.
        statuses: the supervisor's state of each model.
        triton_ready: asks Triton about one model.
        now: the monotonic clock.
        gating: endpoints served by other pods, which will be terminated once this pod is ready.
        progress: what the log says about a model that is being loaded, as a suffix of a sentence.
        unreadable: endpoints that can't be read, and what is wrong with them.
    """
    if not statuses:
        return True, [NO_ENDPOINTS]
    served: list[str] = []
    absent: list[str] = []
    awaited: list[str] = []
    for name, models in required.items():
        lacking = awaited if name in gating else absent
        unready = {model: statuses[model] for model in models if not _ready(model, statuses, triton_ready)}
        if not unready:
            served += models
        for model, status in unready.items():
            if status.phase is Phase.LOADED:
                lacking.append(f"{model} is loaded, but Triton does not report it as ready")
            elif status.phase is Phase.FAILED:
                lacking.append(f"{model} {status.sentence(now)}")
            else:
                awaited.append(f"{model} {status.sentence(now)}{progress(status)}")
        if unready and lacking is awaited:
            awaited.append(_gates(name))
    for name, reason in unreadable.items():
        absent.append(f"{name} can't be read: {reason}")
        if name in gating:
            awaited.append(_gates(name))
    if awaited or (absent and not served):
        return False, [*awaited, *absent]
    return True, [f"ready: {', '.join(sorted(served)) or 'no endpoints to serve'}", *absent]


def _gates(name: str) -> str:
    return f"{name} is served by other pods, which keep running until this pod serves it too"


def _ready(model: str, statuses: Mapping[str, ModelStatus], triton_ready: Callable[[str], bool]) -> bool:
    # Another client may have loaded a model that had failed.
    return statuses[model].phase in (Phase.LOADED, Phase.FAILED) and triton_ready(model)


def liveness(
    index: Mapping[str, str],
    alive: Mapping[str, frozenset[int]],
    statuses: Mapping[str, ModelStatus],
    unanswered: Mapping[str, str],
) -> ProbeResult:
    """Whether the loaded models work; if not, only a restart helps.

    Args:
        index: Triton's state of each model.
        alive: running processes by model.
        statuses: the supervisor's state of each model; one that is being loaded or reloaded is not checked.
        unanswered: models that failed to answer a question, and how.
    """
    wrong: list[str] = []
    loaded = [model for model, state in index.items() if state == "READY"]
    for model in idle(index, statuses):
        if not alive.get(model):
            wrong.append(f"{model} has no running process")
        elif model in unanswered:
            wrong.append(f"{model} does not answer: {unanswered[model]}")
    return (
        (False, wrong) if wrong else (True, [f"alive: {', '.join(sorted(loaded)) or 'tritonserver answers'}"])
    )


def idle(index: Mapping[str, str], statuses: Mapping[str, ModelStatus]) -> list[str]:
    """Models that are loaded and that the supervisor does not work on.

    Args:
        index: Triton's state of each model.
        statuses: the supervisor's state of each model.
    """
    return [
        model
        for model, state in index.items()
        if state == "READY" and not (model in statuses and statuses[model].phase in BUSY)
    ]


class StuckDetector:
    """Tells models that are stuck from models that are slow to answer once in a while."""

    def __init__(self, seconds: float = STUCK_SECONDS) -> None:
        """Starts without a failure.

        Args:
            seconds: how long a model has to fail to answer, in consecutive probes, to count as stuck.
        """
        self._seconds = seconds
        self._since: dict[str, float] = {}
        self._probed = float("-inf")

    def stuck(self, failures: Mapping[str, str], now: float) -> dict[str, str]:
        """Records the result of a probe.

        Args:
            failures: models that failed to answer this time, and how.
            now: the monotonic clock.

        Returns:
            The models that are stuck, and how they failed to answer.
        """
        if now - self._probed > self._seconds:
            # Too long ago to be consecutive: what happened between the probes is unknown.
            self._since.clear()
        self._probed = now
        self._since = {model: self._since.get(model, now) for model in failures}
        return {
            model: f"{reason} (for {now - self._since[model]:.0f} s)"
            for model, reason in failures.items()
            if now - self._since[model] >= self._seconds
        }
