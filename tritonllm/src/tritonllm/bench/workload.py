"""What a benchmark asks: of which server, with which prompts, how many at a time."""

from __future__ import annotations

import dataclasses
import enum
import math
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tritonllm.bench import failures

# Enough for percentiles of a first look; who reports p99 asks for more.
_LEAST_REQUESTS = 50
_REQUESTS_PER_STREAM = 10
_SECONDS_OF_ARRIVALS = 30
_WARMUP_OF_ARRIVALS = 10

_CONCURRENCY = 16
_INPUT_TOKENS = 512
_MAX_TOKENS = 128


class Api(enum.StrEnum):
    """Which API is asked: `/v1/chat/completions` or `/v1/completions` of OpenAI's, or Triton's `generate_stream`."""

    chat = "chat"
    completions = "completions"
    triton = "triton"


def generate_stream(model: str) -> str:
    """The path of a model in Triton's generate extension, streamed."""
    return f"/v2/models/{urllib.parse.quote(model, safe='')}/generate_stream"


@dataclasses.dataclass(frozen=True)
class Target:
    """Who is asked.

    Attributes:
        url: of the server, without `/v1`; of Triton's HTTP port for its API.
        model: its name there.
        tokenizer: directory, name on the Hub, or `builtin`; makes synthetic prompts of a given length.
    """

    url: str
    model: str
    tokenizer: str


@dataclasses.dataclass(frozen=True)
class Point:
    """The load of one measurement.

    Attributes:
        concurrency: requests that are in progress all the time; with a rate, the most that are. None has no limit.
        request_rate: mean number of requests per second, which arrive as a Poisson process; None sends the next when
            one is complete.
        input_tokens: of a synthetic prompt; None with prompts of a file.
        max_tokens: of an answer; None leaves it to the model.
        dataset_entries: number of prompts of the dataset, the first ones; None has all.
    """

    concurrency: int | None = None
    request_rate: float | None = None
    input_tokens: int | None = None
    max_tokens: int | None = None
    dataset_entries: int | None = None

    def described(self) -> dict[str, Any]:
        """The values that are set, by the names of the command line's options."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Workload:
    """What all points of a sweep have in common.

    Attributes:
        api: see `Api`.
        dataset: file of prompts as AIPerf reads it; None has synthetic prompts.
        requests: number of requests; None follows from the point.
        duration: seconds after which no request is sent any more; None has no limit.
        warmup: requests that are sent before and not counted; None follows from the point.
        slo: milliseconds by metric; see `slo.parse`.
        ignore_eos: generate until the maximum number of tokens, as vLLM and `tritonllm` do on request.
        extra: further fields of each request's body; of its sampling parameters with Triton's API.
        seed: makes prompts and arrivals the same each time.
        timeout: of a request, in seconds.
    """

    api: Api = Api.chat
    dataset: Path | None = None
    requests: int | None = None
    duration: float | None = None
    warmup: int | None = None
    slo: Mapping[str, float] = dataclasses.field(default_factory=dict)
    ignore_eos: bool = True
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    timeout: float = 600


def with_defaults(point: Point, workload: Workload) -> Point:
    """The point with a default for what is not set: the prompts of a file leave the length of answers to the model.

    Raises:
        failures.InvalidBenchmark: the prompts of a file have their own length, or there is no file.
    """
    if workload.dataset is None and point.dataset_entries is not None:
        raise failures.InvalidBenchmark("--dataset-entries: needs --dataset")
    if workload.dataset is not None and point.input_tokens is not None:
        raise failures.InvalidBenchmark("--input-tokens: the prompts of a dataset have their own length")
    open_loop = point.request_rate is not None
    synthetic = workload.dataset is None
    return Point(
        concurrency=point.concurrency or (None if open_loop else _CONCURRENCY),
        request_rate=point.request_rate,
        input_tokens=point.input_tokens or (_INPUT_TOKENS if synthetic else None),
        max_tokens=point.max_tokens or (_MAX_TOKENS if synthetic else None),
        dataset_entries=point.dataset_entries,
    )


def requests(workload: Workload, point: Point) -> int | None:
    """How many requests to send; None where only the duration ends it."""
    if workload.requests is not None or workload.duration is not None:
        return workload.requests
    if point.dataset_entries is not None:
        # Each prompt once.
        return point.dataset_entries
    if point.request_rate is not None:
        return max(_LEAST_REQUESTS, math.ceil(point.request_rate * _SECONDS_OF_ARRIVALS))
    return max(_LEAST_REQUESTS, (point.concurrency or 1) * _REQUESTS_PER_STREAM)


def warmup(workload: Workload, point: Point) -> int:
    """How many requests to send before those that count."""
    if workload.warmup is not None:
        return workload.warmup
    return _WARMUP_OF_ARRIVALS if point.request_rate is not None else point.concurrency or 1
