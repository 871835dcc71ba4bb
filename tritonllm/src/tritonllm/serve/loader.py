"""Loads the models of the endpoints, one after another, and classifiers before the endpoints whose rules ask them."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from tritonllm import api
from tritonllm.serve import control_api, load_progress, log_tail
from tritonllm.serve.model_states import ModelStates, Phase
from tritonllm.serve.report import Reporter

_MAX_REASON = 600
# What vLLM raises in its wait for workers, and says of them. Source: vllm/v1/executor/multiproc_executor.py, 0.25.1.
_CANCELLED = "RuntimeError: cancelled"
_WORKER_DIED = re.compile(r"Worker proc \S+ died unexpectedly")


class LoadHung(Exception):
    """A model did not load in time. Only a restart of tritonserver ends the attempt; the message says what was seen.

    Attributes:
        endpoint: name of the endpoint.
        model: name of the model.
    """

    def __init__(self, endpoint: str, model: str, reason: str) -> None:
        super().__init__(reason)
        self.endpoint = endpoint
        self.model = model


def load_all(
    endpoints: Sequence[api.LLMEndpoint],
    control: control_api.ControlApi,
    states: ModelStates,
    reporter: Reporter,
    log: log_tail.LogTail,
    timeout: float,
) -> tuple[list[str], list[str]]:
    """Loads endpoint by endpoint; one that fails does not stop the others, except those whose rules ask it.

    Never two engines at a time: an engine measures the free memory of its GPU as it starts.

    Args:
        endpoints: what to load, in this order, but classifiers first.
        control: API of the server.
        states: updated for every model.
        reporter: informed about every model.
        log: of the server and its models.
        timeout: seconds that each model has.

    Returns:
        Names of the endpoints that are ready, and of those that failed.

    Raises:
        LoadHung: a model did not load in time.
        control_api.Gone: tritonserver ended.
    """
    ready: list[str] = []
    failed: list[str] = []
    for endpoint in sorted(endpoints, key=lambda each: not each.is_classifier):
        missing = [name for name in endpoint.classifiers if name not in ready]
        if missing:
            reason = _lacks(missing[0])
            fail(endpoint, endpoint.engine_name, reason, states)
            reporter.problem(f"{endpoint.name} is not served: {reason}")
        else:
            reason = _load_endpoint(endpoint, control, states, reporter, log, timeout)
        (failed if reason else ready).append(endpoint.name)
    return ready, failed


def _load_endpoint(
    endpoint: api.LLMEndpoint,
    control: control_api.ControlApi,
    states: ModelStates,
    reporter: Reporter,
    log: log_tail.LogTail,
    timeout: float,
) -> str:
    """Returns why it failed; empty on success."""
    for model in endpoint.models:
        started, position = time.monotonic(), log.position()
        states.set(model, Phase.LOADING)
        try:
            control.load(model, seconds=timeout)
        except control_api.Refused as error:
            reason = cause(useful(str(error)), log.since(position))
            fail(endpoint, model, reason, states)
            reporter.problem(f"{model} could not be loaded, so {endpoint.name} is not served: {reason}")
            return reason
        except control_api.TimedOut:
            reason = overdue(timeout, log.since(position))
            fail(endpoint, model, reason, states)
            raise LoadHung(endpoint.name, model, reason) from None
        states.set(model, Phase.LOADED)
        reporter.step(f"{model}: loaded in {time.monotonic() - started:.1f} s")
    return ""


def fail(endpoint: api.LLMEndpoint, model: str, reason: str, states: ModelStates) -> None:
    """Marks a model as failed, and with it the endpoint's models that depend on it.

    Args:
        endpoint: whose model it is.
        model: the one that failed.
        reason: why.
        states: of the server.
    """
    models = endpoint.models
    states.set(model, Phase.FAILED, reason)
    for dependent in models[models.index(model) + 1 :]:
        states.set(dependent, Phase.FAILED, _lacks(model))


def _lacks(model: str) -> str:
    return f"it needs {model}, which could not be loaded"


def overdue(timeout: float, lines: Sequence[str]) -> str:
    """Says that a load exceeded its deadline.

    Args:
        timeout: seconds that it had.
        lines: what the server and its models have logged meanwhile.
    """
    return f"it did not load within {timeout:g} s (--load-timeout){load_progress.summary(lines)}"


def useful(message: str) -> str:
    r"""Extracts the reason of a failed load from Triton's message.

    Args:
        message: such as `load failed for model 'm': version 1 is at UNAVAILABLE state: Internal: ValueError:
            no weights\n\nAt:\n  /repo/m/1/model.py(3): initialize\n;`.
    """
    text = re.sub(r"^.*?version \d+ is at UNAVAILABLE state: ", "", message, count=1, flags=re.DOTALL)
    text = re.sub(r"^(Internal|Invalid argument|Not found|Unavailable|Unknown): ", "", text)
    text = text.split("\n\nAt:\n")[0].strip().rstrip(";").strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines)[:_MAX_REASON] or "Triton gives no reason; see the log of tritonserver"


def cause(reason: str, lines: Sequence[str]) -> str:
    """Finds the cause of a failed load if Triton's reason only refers to it.

    vLLM's engine runs in processes of its own. If one of them fails, Triton learns no more than "see root cause above";
    the cause is the first exception that was logged, or, if that is only the end of a wait, the worker that died.

    Args:
        reason: Triton's.
        lines: what the server and its models have logged since the load began, oldest first.
    """
    if "root cause" not in reason:
        return reason
    first = log_tail.first_exception(lines)
    died = next((match.group() for match in map(_WORKER_DIED.search, lines) if match), "")
    if died and first in ("", _CANCELLED):
        return f"{died} while the engine started; it was killed, or see the log before"
    return first[:_MAX_REASON] or reason
