"""What a measurement takes of this machine's GPUs: power, memory and use, sampled by NVML while it runs."""

from __future__ import annotations

import contextlib
import ipaddress
import statistics
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pynvml

from tritonllm.bench import results

_SECONDS = 1.0
_GIB = 1 << 30


class Reading(NamedTuple):
    """One sample of one GPU; None is what it does not tell, as MIG instances do not.

    Attributes:
        watts: of power.
        memory: bytes in use.
        percent: of the time in which it computed.
    """

    watts: float | None
    memory: float | None
    percent: float | None


def is_local(url: str) -> bool:
    """Whether the server of a URL is on this machine, so that its GPUs are ours."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def nvml() -> Iterator[Callable[[], list[Reading]] | None]:
    """What reads all GPUs of this machine, for the block; None where there is none, or no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        yield (lambda: [_reading(handle) for handle in handles]) if handles else None
    finally:
        pynvml.nvmlShutdown()


class Sampler:
    """Samples in a thread of its own, for the block."""

    def __init__(self, read: Callable[[], list[Reading]], seconds: float = _SECONDS) -> None:
        self._read, self._seconds = read, seconds
        self._samples: list[list[Reading]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpu-use", daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def use(self) -> results.GpuUse | None:
        """What was taken until now; None without a sample."""
        return summed(self._samples)

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self._samples.append(self._read())


def summed(samples: Sequence[Sequence[Reading]]) -> results.GpuUse | None:
    """All GPUs together: mean power and most memory added up, and the mean use; None without a sample."""
    if not samples:
        return None
    watts = [[reading.watts for reading in sample] for sample in samples]
    memory = [[reading.memory for reading in sample] for sample in samples]
    percent = [value for sample in samples for reading in sample if (value := reading.percent) is not None]
    bytes_used = [sum(filter(None, each)) for each in memory]
    power = [sum(filter(None, each)) for each in watts]
    return results.GpuUse(
        gpus=len(samples[0]),
        watts=statistics.fmean(power) if any(power) else None,
        memory_gib=max(bytes_used) / _GIB if any(bytes_used) else None,
        percent=statistics.fmean(percent) if percent else None,
    )


def _reading(handle: Any) -> Reading:
    return Reading(
        _asked(lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000),
        _asked(lambda: float(pynvml.nvmlDeviceGetMemoryInfo(handle).used)),
        _asked(lambda: float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)),
    )


def _asked(question: Callable[[], float]) -> float | None:
    try:
        return question()
    except pynvml.NVMLError:
        return None
