"""Loads the models of the endpoints one after another and says how it goes."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from tritonllm import api
from tritonllm.serve import control_api
from tritonllm.serve.model_states import ModelStates, Phase
from tritonllm.serve.report import Reporter

_ALIVE_SECONDS = 10.0
_MAX_REASON = 600


_EXCEPTION = re.compile(r"\b[A-Z]\w*(?:Error|Exception): .+")


def order(endpoint: api.LLMEndpoint) -> tuple[str, str, str]:
    """The endpoint's models, each after those it needs."""
    return endpoint.engine_name, endpoint.guardrail_name, endpoint.name


def load_all(
    endpoints: Sequence[api.LLMEndpoint],
    control: control_api.ControlApi,
    states: ModelStates,
    reporter: Reporter,
    tail: Callable[[], Sequence[str]] = tuple,
) -> tuple[list[str], list[str]]:
    """Loads endpoint by endpoint; one that fails does not stop the others.

    Never two engines at a time: each measures the free memory of its GPU as it starts.

    Args:
        endpoints: what to load, in this order.
        control: of the server.
        states: told of every model.
        reporter: told of every model.
        tail: the newest lines that the models printed: a sign of life while one takes long, and where an
            engine's own processes say why it failed.

    Returns:
        Names of the endpoints that are ready and of those that are not.

    Raises:
        control_api.Unreachable: tritonserver ended meanwhile.
    """
    ready: list[str] = []
    failed: list[str] = []
    for endpoint in endpoints:
        (ready if _load_endpoint(endpoint, control, states, reporter, tail) else failed).append(endpoint.name)
    return ready, failed


def _load_endpoint(
    endpoint: api.LLMEndpoint,
    control: control_api.ControlApi,
    states: ModelStates,
    reporter: Reporter,
    tail: Callable[[], Sequence[str]],
) -> bool:
    models = order(endpoint)
    for position, model in enumerate(models):
        states.set(model, Phase.LOADING)
        started = time.monotonic()
        try:
            with _sign_of_life(model, reporter, tail):
                control.load(model)
        except control_api.Refused as error:
            reason = cause(useful(str(error)), tail())
            give_up(models[position:], reason, states)
            reporter.problem(f"{model} could not be loaded, so {endpoint.name} is not served: {reason}")
            return False
        states.set(model, Phase.LOADED)
        reporter.step(f"{model}: loaded in {time.monotonic() - started:.1f} s")
    return True


def give_up(models: Sequence[str], reason: str, states: ModelStates) -> None:
    """Marks a model as failed, and with it those that need it.

    Args:
        models: of one endpoint, each after those it needs; the first is the one that failed.
        reason: why.
        states: of the server.
    """
    first, *later = models
    states.set(first, Phase.FAILED, reason)
    for model in later:
        states.set(model, Phase.FAILED, f"it needs {first}, which could not be loaded")


@contextlib.contextmanager
def _sign_of_life(model: str, reporter: Reporter, tail: Callable[[], Sequence[str]]) -> Iterator[None]:
    done = threading.Event()
    started = time.monotonic()

    def tell() -> None:
        while not done.wait(_ALIVE_SECONDS):
            line = "".join(tail()[-1:])
            reporter.step(
                f"{model}: loading, {time.monotonic() - started:.0f} s{f'; {line}' if line else ''}"
            )

    teller = threading.Thread(target=tell, name="sign-of-life", daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def useful(message: str) -> str:
    r"""Triton's reason for a failed load, without the wrapping around the line that helps.

    Args:
        message: such as `load failed for model 'm': version 1 is at UNAVAILABLE state: Internal: ValueError:
            no weights\n\nAt:\n  /repo/m/1/model.py(3): initialize\n;`.
    """
    text = re.sub(r"^.*?version \d+ is at UNAVAILABLE state: ", "", message, count=1, flags=re.DOTALL)
    text = re.sub(r"^(Internal|Invalid argument|Not found|Unavailable|Unknown): ", "", text)
    text = text.split("\n\nAt:\n")[0].strip().rstrip(";").strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines)[:_MAX_REASON] or "Triton gives no reason; its log may"


def cause(reason: str, lines: Sequence[str]) -> str:
    """What really went wrong, where the reason only points at it.

    vLLM's engine runs in processes of its own. When one fails, Triton learns no more than "see root cause
    above", and the cause is the first exception that was printed.

    Args:
        reason: Triton's.
        lines: the newest lines that the models printed, oldest first.
    """
    if "root cause" not in reason:
        return reason
    for line in lines:
        if found := _EXCEPTION.search(line):
            return found.group()[:_MAX_REASON]
    return reason
