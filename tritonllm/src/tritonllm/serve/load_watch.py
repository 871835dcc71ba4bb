"""Watches models while they load: reports progress, and notices an engine that waits for a worker which died."""

from __future__ import annotations

from collections.abc import Mapping

from tritonllm.serve import load_progress, log_tail
from tritonllm.serve.model_states import BUSY, ModelStates, ModelStatus, Phase
from tritonllm.serve.report import Reporter

_PROGRESS_SECONDS = 10.0
# A worker that ends because the load fails or completes is followed by the end of the load.
_WORKER_GRACE_SECONDS = 60.0


class LoadWatch:
    """Turns the log into progress: for `/readyz` and `/loading` at any time, for the reporter every few seconds."""

    def __init__(self, states: ModelStates, log: log_tail.LogTail, reporter: Reporter) -> None:
        """Starts with nothing reported.

        Args:
            states: of the models.
            log: of the server and its models.
            reporter: receives the progress.
        """
        self._states = states
        self._log = log
        self._reporter = reporter
        self._workers = WorkerWatch()
        self._due: dict[str, float] = {}

    def progress(self, status: ModelStatus) -> str:
        """What the log says about a model that is being loaded, as a suffix of a sentence; empty for others."""
        return load_progress.summary(self._log.since(status.log_position)) if status.phase in BUSY else ""

    def stages(self) -> dict[str, str]:
        """The stage of each model that is being loaded, without text of the log, for those whose log tells one."""
        logs = {
            model: self._log.since(status.log_position)
            for model, status in self._states.statuses().items()
            if status.phase in BUSY
        }
        return {model: stage for model, lines in logs.items() if (stage := load_progress.stage(lines))}

    def report(self, now: float) -> None:
        """Reports each model that has been loading for a while.

        Args:
            now: the monotonic clock.
        """
        for model, status in self._states.statuses().items():
            if status.phase not in BUSY:
                continue
            due = max(self._due.get(model, 0.0), status.since + _PROGRESS_SECONDS)
            if now >= due:
                self._due[model] = now + _PROGRESS_SECONDS
                self._reporter.step(f"{model} {status.sentence(now)}{self.progress(status)}")

    def loading(self) -> list[str]:
        """Models that are being loaded."""
        return [model for model, status in self._states.statuses().items() if status.phase is Phase.LOADING]

    def hung(self, workers: Mapping[str, frozenset[int]], now: float) -> tuple[str, str] | None:
        """A model that will never finish loading because one of its workers died, and the reason.

        Args:
            workers: process ids of the workers of each model that is being loaded.
            now: the monotonic clock.
        """
        statuses = self._states.statuses()
        for model in self._workers.hung(workers, now):
            lines = self._log.since(statuses[model].log_position)
            # Without an error in the log, the worker may just have done its work.
            if log_tail.last_error(lines):
                return model, f"a worker process died while it was being loaded{load_progress.summary(lines)}"
        return None


class WorkerWatch:
    """Notices that a worker process of a loading engine died while its load goes on.

    vLLM can wait for ever for a worker that crashed, for example with a CUDA error.
    """

    # workaround: W21

    def __init__(self, grace: float = _WORKER_GRACE_SECONDS) -> None:
        """Starts without any known worker.

        Args:
            grace: seconds after a worker's end in which the load may still fail or complete by itself.
        """
        self._grace = grace
        self._workers: dict[str, frozenset[int]] = {}
        self._missing_since: dict[str, float] = {}

    def hung(self, workers: Mapping[str, frozenset[int]], now: float) -> list[str]:
        """Models whose load has gone on for too long without one of its workers, sorted.

        Args:
            workers: process ids of the workers of each model that is being loaded.
            now: the monotonic clock.
        """
        self._missing_since = {model: at for model, at in self._missing_since.items() if model in workers}
        for model, pids in workers.items():
            if self._workers.get(model, frozenset()) - pids:
                self._missing_since.setdefault(model, now)
        self._workers = dict(workers)
        return sorted(model for model, at in self._missing_since.items() if now - at >= self._grace)
