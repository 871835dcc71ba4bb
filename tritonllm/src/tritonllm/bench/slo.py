"""Service level objectives of a request, such as `ttft=500ms,itl=50ms`; goodput counts the requests that meet all."""

from __future__ import annotations

import re

from tritonllm.bench import failures

_METRICS = {
    "ttft": "time_to_first_token",
    "itl": "inter_token_latency",
    "tpot": "inter_token_latency",
    "latency": "request_latency",
}
_UNITS = {"ms": 1.0, "s": 1000.0}
_OBJECTIVE = re.compile(r"(?P<name>[a-z]+)=(?P<value>\d+(?:\.\d+)?)(?P<unit>ms|s)")


def parse(text: str) -> dict[str, float]:
    """The objectives of a text.

    Args:
        text: `name=value` separated by commas. Names are `ttft` (time to first token), `itl` or `tpot` (the mean time
            between the tokens of a request) and `latency` (of the request); values have the unit `ms` or `s`.

    Returns:
        Milliseconds by AIPerf's name of the metric.

    Raises:
        failures.InvalidBenchmark: the text is something else.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        match = _OBJECTIVE.fullmatch(part.strip())
        if match is None or match["name"] not in _METRICS:
            raise failures.InvalidBenchmark(
                f"`{part.strip()}` is not an objective; write ttft, itl or latency with ms or s, as in ttft=500ms,itl=50ms"
            )
        metric = _METRICS[match["name"]]
        if metric in found:
            raise failures.InvalidBenchmark(f"`{part.strip()}` sets an objective that is set already")
        milliseconds = float(match["value"]) * _UNITS[match["unit"]]
        if not milliseconds:
            raise failures.InvalidBenchmark(f"`{part.strip()}` cannot be met; an objective is more than 0")
        found[metric] = milliseconds
    return found
