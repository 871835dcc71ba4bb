"""The metrics of an endpoint on Triton's own `/metrics`, for the models that report them.

Every call into Triton's metrics crosses to another process. So the request path only notes what
happened, and a thread of its own carries the sums over a few times a second.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]

from tritonllm.runtime import metric_names, threads

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.2

_Series = tuple[str, tuple[tuple[str, str], ...]]


class _Pending(NamedTuple):
    sums: Counter[_Series]
    settings: dict[_Series, float]
    samples: list[tuple[_Series, float]]


class Meter:
    """Records metrics of one endpoint.

    Args:
        endpoint: value of the label `endpoint` on every series.
        families: the families that this model reports; each is exported, at zero, from the start
            for every combination of labels that `series` names.
        series: label sets known in advance, per family name; a family that is absent has one series
            without further labels.
    """

    def __init__(
        self,
        endpoint: str,
        families: Iterable[metric_names.Family],
        series: dict[str, list[dict[str, str]]],
    ) -> None:
        self._endpoint = endpoint
        self._families = {family.name: family for family in families}
        self._triton = {
            family.name: _immortal(
                pb_utils.MetricFamily(
                    name=family.name,
                    description=family.description,
                    kind=getattr(pb_utils.MetricFamily, family.kind),
                )
            )
            for family in self._families.values()
        }
        self._metrics: dict[_Series, Any] = {}
        self._lock = threading.Lock()
        self._pending = _Pending(Counter(), {}, [])
        self._stop = threading.Event()
        for name in self._families:
            for labels in series.get(name, [{}]):
                self._metric(_series(name, labels))
        self._thread = threads.start("metrics", self._run)

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Adds to a counter or, up or down, to a gauge.

        Gauges of requests only ever change this way: while a model is reloaded, its old and its new
        instance share one series, and a value set by one would overwrite the other's.
        """
        with self._lock:
            self._pending.sums[_series(name, labels)] += amount  # pyright: ignore[reportArgumentType]

    def set(self, name: str, value: float, **labels: str) -> None:
        """Sets a gauge that has one writer."""
        with self._lock:
            self._pending.settings[_series(name, labels)] = value

    def zero(self, *names: str) -> None:
        """Sets gauges to zero at once. For a model that is the only one to have them, before its first request."""
        for name in names:
            self._metric(_series(name, {})).set(0)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Adds a sample, in seconds, to a histogram."""
        with self._lock:
            self._pending.samples.append((_series(name, labels), value))

    def close(self) -> None:
        """Carries over what is left and stops."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, _Pending(Counter(), {}, [])
        for series, amount in pending.sums.items():
            if amount and not self._report(series, "increment", amount):
                self.add(series[0], amount, **dict(series[1]))
        for series, value in pending.settings.items():
            self._report(series, "set", value)
        for series, value in pending.samples:
            self._report(series, "observe", value)

    def _report(self, series: _Series, method: str, value: float) -> bool:
        """Whether Triton has taken a value. A sum that it has not is added to the next one."""
        try:
            getattr(self._metric(series), method)(value)
        except pb_utils.TritonModelException as error:
            log.warning("the metric %s could not be reported: %s", series[0], error)
            return False
        return True

    def _metric(self, series: _Series) -> Any:
        metric = self._metrics.get(series)
        if metric is None:
            name, labels = series
            buckets = self._families[name].buckets
            options = {"buckets": list(buckets)} if buckets else {}
            labelled = {"endpoint": self._endpoint, **dict(labels)}
            metric = self._metrics[series] = _immortal(self._triton[name].Metric(labels=labelled, **options))
        return metric


# workaround: W13
def _immortal(metric: Any) -> Any:
    """A metric, or a family of them, that Python never frees.

    Where Python does, Triton deletes the series, although the other instance of a model that is being reloaded
    still uses it: that one then writes to freed memory, and tritonserver dies of it sooner or later. At the
    interpreter's end it would crash as well, as Triton has taken the memory by then in which metrics live.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(metric))
    return metric


def _series(name: str, labels: dict[str, str]) -> _Series:
    return name, tuple(sorted(labels.items()))
