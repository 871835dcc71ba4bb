"""Asks a server for streamed answers, many at a time, and notes when each text of an answer arrives.

The client shares the machine with the servers it measures, but stands for other machines. So it is cheap (raw
connections, no JSON parser), runs in several processes if one is too slow, and with real-time priority if allowed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import multiprocessing
import os
import random
import time
import urllib.parse
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Literal

from answer import Answer, Failure

try:
    from uvloop import run
except ImportError:
    from asyncio import run

_ANSWER_SECONDS = 120


@dataclasses.dataclass(frozen=True)
class Target:
    """A server and how it is asked.

    Attributes:
        name: in the report.
        kind: Triton's generate extension or OpenAI's completions.
        url: where requests are sent.
        model: name of the model; used for OpenAI only.
        pid: of the process whose CPU time is measured with that of its children; None if it is not known.
        process: what this process does; see `processes.roles`.
    """

    name: str
    kind: Literal["triton", "openai"]
    url: str
    model: str = ""
    pid: int | None = None
    process: str = "server"

    def request(self, prompt: str, tokens: int) -> bytes:
        """One HTTP request for a streamed answer of exactly so many tokens."""
        body: dict[str, object] = {
            "stream": True,
            "max_tokens": tokens,
            "ignore_eos": True,
            "temperature": 1.0,
        }
        body |= {"text_input": prompt} if self.kind == "triton" else {"prompt": prompt, "model": self.model}
        content = json.dumps(body).encode()
        parts = urllib.parse.urlsplit(self.url)
        head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + content


@dataclasses.dataclass(frozen=True)
class Load:
    """A closed loop of requests.

    Attributes:
        streams: requests at a time.
        requests: in all.
        tokens: of an answer.
        prompts: prompts to choose from.
    """

    streams: int
    requests: int
    tokens: int
    prompts: Sequence[str]

    def split(self, processes: int) -> list[Load]:
        """Shares of this load, as equal as they can be; none is empty."""
        parts = min(processes, self.streams)
        return [
            dataclasses.replace(
                self,
                streams=self.streams // parts + (part < self.streams % parts),
                requests=self.requests // parts + (part < self.requests % parts),
            )
            for part in range(parts)
        ]


@dataclasses.dataclass
class Sample:
    """What a process saw of its share.

    Attributes:
        started: when it began, by the monotonic clock, which all processes share.
        ended: when its last answer was complete.
        first_texts: seconds from a request to its first text.
        gaps: seconds between two texts of an answer.
        texts: events with text.
        answers: complete answers.
        cpu_seconds: CPU time of this process.
    """

    started: float
    ended: float = 0.0
    first_texts: list[float] = dataclasses.field(default_factory=list)
    gaps: list[float] = dataclasses.field(default_factory=list)
    texts: int = 0
    answers: int = 0
    cpu_seconds: float = 0.0


async def measure(target: Target, load: Load, rng: random.Random) -> Sample:
    """Sends a load and waits for its last answer.

    Raises:
        Failure: a request got no answer, or another one than asked for.
    """
    loop = asyncio.get_running_loop()
    address = urllib.parse.urlsplit(target.url)
    host, port = address.hostname or "", address.port or 80
    left = iter(range(load.requests))
    cpu = time.process_time()
    sample = Sample(time.monotonic())
    failure: BaseException | None = None

    async def one_after_another() -> None:
        for _ in left:
            request = target.request(rng.choice(load.prompts), load.tokens)
            started = time.monotonic()
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    transport, answer = await loop.create_connection(Answer, host, port)
                    try:
                        transport.write(request)
                        await answer.done
                    finally:
                        transport.close()
            except TimeoutError:
                raise Failure(f"{target.name}: an answer took over {_ANSWER_SECONDS} s") from None
            except (OSError, Failure) as error:
                raise Failure(f"{target.name} at {target.url}: {error}") from None
            times = answer.times
            if times:
                sample.first_texts.append(times[0] - started)
            sample.gaps += [after - before for before, after in itertools.pairwise(times)]
            sample.texts += len(times)
            sample.answers += 1

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(load.streams):
                group.create_task(one_after_another())
    except* Failure as failures:
        failure = failures.exceptions[0]
    if failure:
        raise failure
    sample.ended = time.monotonic()
    sample.cpu_seconds = time.process_time() - cpu
    return sample


class Client:
    """Processes that measure together; a context manager.

    Args:
        processes: how many.

    Attributes:
        refused: why the system refused real-time priority; empty if it did not.
    """

    def __init__(self, processes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._workers: list[tuple[Connection, BaseProcess]] = []
        for number in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, number), daemon=True)
            process.start()
            theirs.close()
            self._workers.append((ours, process))
        self.refused = max(connection.recv() for connection, _ in self._workers)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        for connection, process in self._workers:
            connection.close()
            process.join(5)
            process.terminate()

    def measure(self, target: Target, load: Load) -> list[Sample]:
        """Shares a load among the processes.

        Raises:
            Failure: a request failed, or a process of the client died.
        """
        shares = load.split(len(self._workers))
        used = [connection for connection, _ in self._workers[: len(shares)]]
        for connection, share in zip(used, shares, strict=True):
            connection.send((target, share))
        samples: list[Sample] = []
        failures: list[Failure] = []
        for connection in used:
            try:
                result = connection.recv()
            except EOFError:
                raise Failure("a process of the measuring client died") from None
            if isinstance(result, Failure):
                failures.append(result)
            else:
                samples.append(result)
        if failures:
            raise failures[0]
        return samples


def _work(connection: Connection, number: int) -> None:
    refused = ""
    try:
        # What the process starts does not inherit it.
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError as error:
        refused = str(error)
    connection.send(refused)
    rng = random.Random(number)
    while True:
        try:
            target, load = connection.recv()
        except EOFError:
            return
        try:
            connection.send(run(measure(target, load, rng)))
        except Failure as failure:
            connection.send(failure)
