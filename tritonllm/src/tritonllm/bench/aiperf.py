"""AIPerf's command line for a measurement, and its environment. Written for AIPerf 0.13."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tritonllm.bench import workload as workloads

INSTALL = (
    "`pip install 'tritonllm[bench]'`, or `uv tool install aiperf==0.13.0` for an environment of its own"
)
"""How to get it."""
API_KEY = "OPENAI_API_KEY"
"""Environment variable with the API key that is sent."""


# The first one; the others follow from it.
_ERROR = re.compile(r"^[\d:.]+ ERROR +(?P<said>.*?)(?: \(\w+\.py:\d+\))?$", re.MULTILINE)


def command(
    program: str,
    target: workloads.Target,
    workload: workloads.Workload,
    point: workloads.Point,
    output: Path,
    *,
    progress: bool,
    config: Path | None = None,
) -> list[str]:
    """The command line of one measurement.

    Args:
        program: AIPerf's.
        target: who is asked.
        workload: what is asked.
        point: how much of it.
        output: directory for AIPerf's files.
        progress: show progress bars on stderr.
        config: file with the text of `config`, if the server asks for an API key.
    """
    arguments = [program, "profile", *([] if config is None else ["--config", str(config)])]
    arguments += ["--model", target.model, "--url", target.url]
    arguments += _endpoint(workload.api, target.model)
    arguments += ["--tokenizer", target.tokenizer, "--use-server-token-count"]
    arguments += _load(workload, point)
    arguments += _prompts(workload, point)
    extra = {**({"ignore_eos": True} if workload.ignore_eos else {}), **workload.extra}
    if extra:
        arguments += ["--extra-inputs", json.dumps(extra)]
    if workload.slo:
        arguments += ["--goodput", " ".join(f"{name}:{value:g}" for name, value in workload.slo.items())]
    arguments += ["--random-seed", str(workload.seed), "--request-timeout-seconds", f"{workload.timeout:g}"]
    arguments += ["--artifact-dir", str(output), "--export-level", "records"]
    arguments += ["--no-gpu-telemetry", "--no-server-metrics", "--ui-type", "simple" if progress else "none"]
    return arguments


def config(workload: workloads.Workload, point: workloads.Point) -> str:
    """A configuration file that has AIPerf send the API key of its environment.

    Without one, AIPerf takes a key by an option only, and every user of the machine can see the command line. The file must
    have prompts and a load, too; they are those of the command line, which AIPerf lays over it.

    Args:
        workload: what is asked.
        point: how much of it.
    """
    prompts: dict[str, Any] = {"name": "main", "type": "synthetic"}
    if workload.dataset is not None:
        prompts |= {"type": "file", "path": str(workload.dataset), "format": "single_turn"}
    load = {
        "type": "concurrency" if point.request_rate is None else "poisson",
        "concurrency": point.concurrency,
        "rate": point.request_rate,
        "requests": workloads.requests(workload, point),
        "duration": workload.duration,
    }
    phase = {"name": "profiling"} | {name: value for name, value in load.items() if value is not None}
    endpoint = {"api_key": f"${{{API_KEY}}}"}
    return json.dumps({"benchmark": {"endpoint": endpoint, "datasets": [prompts], "phases": [phase]}})


def reason(log: str, tokenizer: str) -> str:
    """Why AIPerf has ended without a result, in a sentence; empty if its log does not say it in a line.

    Args:
        log: what it has printed.
        tokenizer: see `workload.Target`.
    """
    if (found := _ERROR.search(log)) is None:
        return ""
    said = found["said"]
    if "tokenizer" not in said.lower() and "tiktoken" not in said:
        return said
    return (
        f"the tokenizer `{tokenizer}` cannot be loaded, so name the directory of one by --tokenizer ({said})"
    )


def environment(inherited: Mapping[str, str], tokenizer: str) -> dict[str, str]:
    """AIPerf's environment, from which `config` reads the API key.

    Args:
        inherited: of this process.
        tokenizer: see `workload.Target`.
    """
    found = dict(inherited)
    if Path(tokenizer).is_absolute():
        # workaround: W28
        found.pop("HF_HUB_OFFLINE", None)
    return found


def _endpoint(api: workloads.Api, model: str) -> list[str]:
    if api is not workloads.Api.triton:
        return ["--endpoint-type", api.value, "--streaming"]
    # Ours: see `aiperf_plugin`.
    arguments = ["--endpoint-type", "tritonllm", "--custom-endpoint", workloads.generate_stream(model)]
    return [*arguments, "--streaming"]


def _load(workload: workloads.Workload, point: workloads.Point) -> list[str]:
    arguments: list[str] = []
    if point.request_rate is not None:
        arguments += ["--request-rate", f"{point.request_rate:g}", "--arrival-pattern", "poisson"]
    if point.concurrency is not None:
        arguments += ["--concurrency", str(point.concurrency)]
    if (count := workloads.requests(workload, point)) is not None:
        arguments += ["--request-count", str(count)]
    if workload.duration is not None:
        arguments += ["--benchmark-duration", f"{workload.duration:g}"]
    if warmup := workloads.warmup(workload, point):
        arguments += ["--warmup-request-count", str(warmup)]
    return arguments


def _prompts(workload: workloads.Workload, point: workloads.Point) -> list[str]:
    if workload.dataset is not None:
        arguments = ["--input-file", str(workload.dataset), "--custom-dataset-type", "single_turn"]
        arguments += ["--dataset-sampling-strategy", "sequential"]
    else:
        arguments = ["--synthetic-input-tokens-mean", str(point.input_tokens)]
        arguments += ["--synthetic-input-tokens-stddev", "0"]
    if point.max_tokens is not None:
        arguments += ["--output-tokens-mean", str(point.max_tokens), "--output-tokens-stddev", "0"]
    return arguments
