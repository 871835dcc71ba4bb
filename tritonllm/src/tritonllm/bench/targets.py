"""The server that is asked: one that runs already, or `tritonllm serve` of a file, for as long as the benchmark takes."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson

from tritonllm import files, paths
from tritonllm.bench import failures, processes, workload
from tritonllm.weights import endpoints as weights_of
from tritonllm.weights import layout

START_SECONDS = 1800
"""Within which a server has to get ready; the time that `tritonllm serve` gives a model to load."""

_ANSWER_SECONDS = 10
_POLL_SECONDS = 0.2


class Server(NamedTuple):
    """A server that answers.

    Attributes:
        url: of OpenAI's API, without `/v1`, or of Triton's HTTP port.
        model: that is asked.
        tokenizer: directory of its tokenizer, if it is known.
        metrics: URL of Triton's metrics, if it is known.
    """

    url: str
    model: str
    tokenizer: str | None
    metrics: str | None


def endpoint(file: Path, model: str | None) -> str:
    """The endpoint of a file to ask.

    Args:
        file: with LLMEndpoints.
        model: which of them; None if there is one.

    Raises:
        files.Invalid: the file is invalid.
        failures.InvalidBenchmark: it does not say which endpoint; see `chosen`.
    """
    names = [found.name for found in files.load([file]) if not found.is_classifier]
    return chosen(model, names, str(file))


@contextlib.contextmanager
def served(
    file: Path, name: str, api: workload.Api, log: Path, start_seconds: float = START_SECONDS
) -> Iterator[Server]:
    """Serves a file on free ports.

    Args:
        file: with LLMEndpoints.
        name: of the endpoint to ask; see `endpoint`.
        api: that is asked.
        log: file for what the server prints.
        start_seconds: within which it has to get ready.

    Raises:
        failures.NotServed: the endpoint does not get ready.
    """
    ports = dict(zip(("http", "grpc", "metrics", "health", "gateway"), _free_ports(5), strict=True))
    command = [sys.executable, "-m", "tritonllm", "serve", str(file)]
    for port, number in ports.items():
        command += [f"--{port}-port", str(number)]
    with processes.running(command, os.environ, log) as process:
        ready = f"http://127.0.0.1:{ports['health']}/readyz"
        deadline = time.monotonic() + start_seconds
        while not _is_ready(ready):
            if process.poll() is not None:
                raise failures.NotServed(f"{file} is not served", processes.last_lines(log))
            if time.monotonic() > deadline:
                raise failures.NotServed(
                    f"{file} is not ready after {start_seconds:g} s", processes.last_lines(log)
                )
            time.sleep(_POLL_SECONDS)
        yield Server(
            f"http://127.0.0.1:{ports['http' if api is workload.Api.triton else 'gateway']}",
            name,
            _tokenizer(file, name),
            f"http://127.0.0.1:{ports['metrics']}/metrics",
        )


def running(url: str, model: str | None, api: workload.Api, metrics: str | None) -> Server:
    """A server that runs already.

    Args:
        url: of OpenAI's API, with or without `/v1`, or of Triton's HTTP port.
        model: which of its models; None if there is one, which Triton does not tell.
        api: that is asked.
        metrics: URL of Triton's metrics, if it is known.

    Raises:
        failures.InvalidBenchmark: it does not say which model; see `chosen`.
        failures.BenchmarkFailed: it does not answer, or no model is ready.
    """
    base = url.rstrip("/").removesuffix("/v1")
    if api is workload.Api.triton:
        return _running_triton(base, model, metrics)
    try:
        models = orjson.loads(fetch(f"{base}/v1/models", api_key=os.environ.get("OPENAI_API_KEY")))["data"]
        names = [each["id"] for each in models]
    except urllib.error.HTTPError as error:
        hint = "set OPENAI_API_KEY" if error.code in (401, 403) else "give the URL of the gateway"
        raise failures.BenchmarkFailed(
            f"{base}/v1/models answers {error.code} {error.reason}; {hint}"
        ) from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise failures.BenchmarkFailed(f"{base} does not answer: {reason}; does the server run?") from None
    except (ValueError, KeyError, TypeError):
        raise failures.BenchmarkFailed(
            f"{base}/v1/models is not OpenAI's API; give the URL of the gateway"
        ) from None
    if not names:
        raise failures.BenchmarkFailed(f"{base} has no model that is ready; is one still being loaded?")
    return Server(base, chosen(model, names, base), None, metrics)


def _running_triton(base: str, model: str | None, metrics: str | None) -> Server:
    if model is None:
        raise failures.InvalidBenchmark("--model: Triton does not list its models; name one")
    ready = f"{base}/v2/models/{urllib.parse.quote(model, safe='')}/ready"
    try:
        fetch(ready)
    except urllib.error.HTTPError as error:
        raise failures.BenchmarkFailed(
            f"{ready} answers {error.code} {error.reason}; is this Triton's HTTP port, and the model loaded?"
        ) from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise failures.BenchmarkFailed(f"{base} does not answer: {reason}; does the server run?") from None
    return Server(base, model, None, metrics)


def fetch(url: str, api_key: str | None = None) -> bytes:
    """What a URL answers.

    Raises:
        OSError: it does not answer, or with an error.
        ValueError: it is not a URL.
    """
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        error.close()
        raise


def chosen(model: str | None, names: list[str], source: str) -> str:
    """The model to ask.

    Raises:
        failures.InvalidBenchmark: it is not there; or there are several, and none was asked for.
    """
    listed = ", ".join(names) or "none"
    if model is None:
        if len(names) != 1:
            raise failures.InvalidBenchmark(
                f"{source} has {len(names)} models ({listed}); name one with --model"
            )
        return names[0]
    if model not in names:
        raise failures.InvalidBenchmark(f"{source} has no model {model}; it has: {listed}")
    return model


def _tokenizer(file: Path, name: str) -> str | None:
    root = Path(os.environ.get("TRITONLLM_WEIGHTS") or paths.weights()).absolute()
    for found in weights_of.pinned(layout.Cache(root), files.load([file])):
        directory = found.directory(str(root))
        if found.name == name and directory is not None and Path(directory).is_dir():
            return directory
    return None


def _is_ready(url: str) -> bool:
    try:
        fetch(url)
    except OSError:
        return False
    return True


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
