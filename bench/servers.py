"""The servers that are compared: how they are started, and which of their processes uses how much CPU time."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import psutil

from answer import Failure
from client import Target
from integration import server

_START_SECONDS = 600
_STOP_SECONDS = 60
_LOG_CHARACTERS = 1500
_RULES = r"""
    input: [{name: secrets, banned: {phrases: [project falcon, launch codes]}, action: Block}]
    output:
      - {name: language, profanity: {}, action: Mask}
      - {name: cards, pattern: {regex: '(?:\d[ -]?){13,16}'}, action: Mask}"""
_ENDPOINT = """
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {{name: {name}}}
spec:
  pool: bench
  model: {{path: {path}}}
  engine: {{type: vllm, args: {args}}}
  limits: {{maxConcurrentRequests: {concurrent}}}
  guardrails: {guardrails}
"""


@contextlib.contextmanager
def tritonllm(
    model: pathlib.Path,
    args: Mapping[str, Any],
    guarded: Mapping[str, bool],
    environment: Mapping[str, str],
    directory: pathlib.Path,
    through: Collection[str],
) -> Iterator[list[Target]]:
    """Serves endpoints of one model until the end of the block.

    Args:
        model: directory of the model.
        args: of vLLM.
        guarded: for each endpoint whether it has guardrails.
        environment: added to the server's environment.
        directory: for the endpoints' files.
        through: how they are asked: `gateway` by OpenAI's API, `triton` by Triton's.

    Raises:
        Failure: it does not start.
    """
    files = []
    for name, rules in guarded.items():
        file = directory / f"{name}.yaml"
        text = _ENDPOINT.format(
            name=name,
            path=model,
            args=json.dumps(args),
            concurrent=args["max_num_seqs"],
            guardrails=_RULES if rules else "{}",
        )
        file.write_text(text)
        files.append(file)
    with contextlib.ExitStack() as stack:
        try:
            served = stack.enter_context(
                server.running(
                    files,
                    environment=dict(environment),
                    seconds=_START_SECONDS,
                    gateway={} if "gateway" in through else None,
                )
            )
        except AssertionError as error:
            raise Failure(f"tritonllm did not start: {str(error)[-_LOG_CHARACTERS:]}") from None
        targets = []
        for name in guarded:
            if "gateway" in through:
                url = f"{served.gateway}/v1/completions"
                targets.append(Target(name, "openai", url, name, served.pid, "supervisor"))
            if "triton" in through:
                url = f"{served.http}/v2/models/{name}/generate_stream"
                shown = f"{name} (Triton)" if "gateway" in through else name
                targets.append(Target(shown, "triton", url, pid=served.pid, process="supervisor"))
        yield targets


@contextlib.contextmanager
def vllm(
    model: pathlib.Path, args: Mapping[str, Any], environment: Mapping[str, str], log: pathlib.Path
) -> Iterator[Target]:
    """vLLM's own OpenAI server until the end of the block.

    Args:
        model: directory of the model.
        args: the same as for the other server, by their names in Python.
        environment: added to the server's environment.
        log: where it prints.

    Raises:
        Failure: it does not start.
    """
    port = server.free_ports(1)[0]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--disable-uvicorn-access-log", *_flags(args)]
    with log.open("w") as output:
        # A session of its own, as tritonllm has: the kernel can share out CPU time by session.
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | environment, start_new_session=True
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(f"{url}/health"):
            if process.poll() is not None or time.monotonic() > deadline:
                story = log.read_text(errors="replace")[-_LOG_CHARACTERS:]
                raise Failure(f"vLLM's server did not start: {story}")
            time.sleep(0.5)
        yield Target("vLLM", "openai", f"{url}/v1/completions", model="tiny", pid=process.pid)
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
        for left in [process, *psutil.wait_procs(children, timeout=5)[1]]:
            left.kill()
        process.wait()


def ready_made(text: str) -> Target:
    """The server that `NAME=KIND=URL[=PID]` describes; OpenAI's is asked for the name of its model.

    Raises:
        Failure: the text has another form, or the server does not answer.
    """
    match = re.fullmatch(r"([^=]+)=(triton|openai)=(http://[^=]+?)(?:=(\d+))?", text)
    if match is None:
        raise Failure(f"--url {text}: is not NAME=KIND=URL[=PID], where KIND is triton or openai")
    name, kind, url, pid = match.groups()
    model = ""
    if kind == "openai":
        models = url.removesuffix("/completions") + "/models"
        try:
            with urllib.request.urlopen(models, timeout=10) as answer:
                model = json.load(answer)["data"][0]["id"]
        except (OSError, ValueError, LookupError) as error:
            raise Failure(f"--url {text}: {models} does not list a model: {error}") from None
    return Target(name, "triton" if kind == "triton" else "openai", url, model, int(pid) if pid else None)


def _flags(args: Mapping[str, Any]) -> list[str]:
    flags = []
    for key, value in args.items():
        name = key.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{name}" if value else f"--no-{name}")
        else:
            flags.append(f"--{name}={value if isinstance(value, str) else json.dumps(value)}")
    return flags


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
