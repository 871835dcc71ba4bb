"""One tritonserver from start to end: its process, its API, and the state of its models.

The supervisor replaces it as a whole when only a restart helps. Threads that still work for an old one find its port
closed and end.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tritonllm import api
from tritonllm.runtime import metric_names
from tritonllm.serve import child, control_api, health, loader, processes, threads, watch
from tritonllm.serve.api_lock import Lock
from tritonllm.serve.load_watch import LoadWatch
from tritonllm.serve.model_probes import ModelProbes
from tritonllm.serve.model_states import ModelStates, Phase
from tritonllm.serve.options import Options
from tritonllm.serve.report import Serving

_SHOWN_LINES = 15
# A tritonserver that stops answering may be about to end.
_DYING_SECONDS = 5.0
# Requests sent directly to an engine pass no pipeline, so they are waited for separately.
_DIRECT_SECONDS = 10.0
_ENGINE_GAUGES = (metric_names.ENGINE_RUNNING, metric_names.ENGINE_WAITING)
# A pipeline may have accepted a request that has not reached its engine.
_LAST_SECONDS = 1.0


class ServerInstance:
    """A running tritonserver and its models.

    Attributes:
        server: the process.
        control: its API.
        models: their states.
        loading: the progress of those that are being loaded.
        started: tritonserver answers, and loading has begun.
        restart_reason: why only a restart of tritonserver helps, if so.
        load_failed: loading is over and no endpoint is served, although there were some.
        hung: an endpoint whose load was given up, and why; only a restart ends the attempt.
    """

    def __init__(
        self,
        options: Options,
        endpoints: Sequence[api.LLMEndpoint],
        unservable: Mapping[str, str],
        server: child.Child,
        repository: Path,
        lock: Lock,
    ) -> None:
        """Takes over the process; `load` begins to load models.

        Args:
            options: of `serve`.
            endpoints: to serve.
            unservable: endpoints not to load, by name, with the reason.
            server: the process.
            repository: its model repository.
            lock: secret of its API.
        """
        self.server = server
        self.control = control_api.ControlApi(
            options.url(options.http_port),
            options.url(options.grpc_port).removeprefix("http://"),
            options.url(options.metrics_port),
            lock,
        )
        self.models = ModelStates(
            (model for endpoint in endpoints for model in endpoint.models), server.log.position
        )
        self.started = False
        self.restart_reason: str | None = None
        self.load_failed = False
        self.hung: loader.LoadHung | None = None
        self._options = options
        self._report = options.reporter
        self._endpoints = endpoints
        self._unservable = unservable
        self._repository = repository
        self._instances: dict[str, tuple[frozenset[int], int]] = {}
        self._probes = ModelProbes(self.control, endpoints)
        self.loading = LoadWatch(self.models, server.log, options.reporter)
        for endpoint in endpoints:
            if endpoint.name in unservable:
                loader.fail(endpoint, endpoint.engine_name, unservable[endpoint.name], self.models)

    def death(self) -> str | None:
        """How tritonserver ended, with its last lines; None while it runs."""
        return self.server.death(_SHOWN_LINES)

    def index(self) -> dict[str, str]:
        """Triton's state of each model that the supervisor loads; models loaded by other clients are not its concern.

        Raises:
            control_api.Refused: Triton's answer is not usable.
            control_api.Unreachable: Triton does not answer.
        """
        own = self.models.statuses()
        return {model: state for model, state in self.control.index().items() if model in own}

    def reasons(self) -> list[str]:
        """Why endpoints could not be loaded: the model that failed, without those that depend on it."""
        statuses = self.models.statuses()
        lines = []
        for endpoint in self._endpoints:
            failed = [model for model in endpoint.models if statuses[model].phase is Phase.FAILED]
            lines += [f"{model}: {statuses[model].reason}" for model in failed[:1]]
        return lines

    def servable(self, hung: Mapping[str, str]) -> bool:
        """Whether an endpoint remains to be served without those whose load hangs.

        Args:
            hung: their names, with the reason.
        """
        return any(endpoint.name not in {*self._unservable, *hung} for endpoint in self._endpoints)

    def alive(self) -> dict[str, frozenset[int]]:
        """Running processes by model."""
        return processes.stubs(self.server.pid, self._repository)

    def instances(self, model: str, pids: frozenset[int]) -> int:
        """How many processes a model has according to Triton, which is asked when they are not those of the last time.

        Args:
            model: its name.
            pids: its running processes.

        Raises:
            control_api.Refused: Triton's answer is not usable.
            control_api.Unreachable: Triton does not answer.
        """
        known, count = self._instances.get(model, (frozenset(), 1))
        if pids != known:
            count = control_api.instances(self.control.config(model))
            if len(pids) >= count:
                self._instances[model] = (pids, count)
        return count

    def liveness(self) -> health.ProbeResult:
        """Answers `/livez`.

        Raises:
            control_api.Refused: Triton's answer is not usable.
            control_api.Unreachable: Triton does not answer.
        """
        index, statuses = self.index(), self.models.statuses()
        unanswered = self._probes.unanswered(health.idle(index, statuses), time.monotonic())
        return health.liveness(index, self.alive(), statuses, unanswered)

    def watch_loading(self, alive: watch.Alive, now: float) -> None:
        """Reports progress, and gives up the load of an engine that waits for a worker which died.

        Args:
            alive: running processes by model.
            now: the monotonic clock.
        """
        self.loading.report(now)
        workers = {
            model: processes.workers(alive.get(model, frozenset())) for model in self.loading.loading()
        }
        if found := self.loading.hung(workers, now):
            model, reason = found
            endpoint = next(each for each in self._endpoints if model in each.models)
            loader.fail(endpoint, model, reason, self.models)
            self.hung = loader.LoadHung(endpoint.name, model, reason)

    def load(self) -> None:
        """Begins to load every endpoint, in the background."""
        self.started = True
        threads.start("load", self._load, functools.partial(self._broke, "loading models"))

    def heal(self, model: str, orphans_gone: Callable[[], bool]) -> None:
        """Begins to reload a model whose process died, in the background.

        Args:
            model: its name.
            orphans_gone: see `watch.heal`.
        """
        if self.models.try_mark_healing(model):
            self._report.problem(f"{model}: its process died; reloading the model")
            target = functools.partial(self._heal, model, orphans_gone)
            threads.start("heal", target, functools.partial(self._broke, f"reloading {model}"))

    def stop(self, seconds: float, force: Callable[[], bool]) -> None:
        """Lets the last requests complete, then ends tritonserver. Its models' processes are the caller's to end.

        Args:
            seconds: how long requests that arrived at the last moment may take.
            force: whether to stop waiting.
        """
        # In a thread, because each call to a tritonserver that hangs takes seconds.
        finish = threads.start(
            "finish",
            functools.partial(self._finish, seconds),
            lambda error: self._report.problem(f"waiting for the last requests failed: {error!r}"),
        )
        watch.within(seconds + _DIRECT_SECONDS, lambda: force() or not finish.is_alive())
        # workaround: W3
        self.server.kill()

    def _finish(self, seconds: float) -> None:
        """Accepts no more requests and waits for those in flight.

        Engines are not unloaded: that takes vLLM ten seconds, in which clients with an open connection would be refused.
        Once tritonserver has ended they find another server.
        """
        engines = {endpoint.engine_name for endpoint in self._endpoints}
        with contextlib.suppress(control_api.Refused, control_api.Unreachable):
            loaded = [model for model, state in self.control.index().items() if state == "READY"]
            for model in loaded:
                if model not in engines:
                    self.control.unload(model)
            if watch.within(
                max(seconds, _LAST_SECONDS), lambda: "UNLOADING" not in self.control.index().values()
            ):
                watch.within(_DIRECT_SECONDS, lambda: not self.control.total(_ENGINE_GAUGES))

    def _load(self) -> None:
        try:
            ready, failed = loader.load_all(
                [endpoint for endpoint in self._endpoints if endpoint.name not in self._unservable],
                self.control,
                self.models,
                self._report,
                self.server.log,
                self._options.load_timeout,
            )
        except loader.LoadHung as error:
            self.hung = error
            return
        except control_api.Gone as error:
            self._require_end(error)
            return
        if not self._endpoints:
            self._report.step(
                f"{health.NO_ENDPOINTS}; tritonserver is at {self._options.url(self._options.http_port)}"
            )
            return
        if not ready:
            self.load_failed = True
            return
        options = self._options
        self._report.ready(
            Serving(
                http=options.url(options.http_port),
                grpc=options.url(options.grpc_port).removeprefix("http://"),
                metrics=options.url(options.metrics_port) + "/metrics",
                health=options.url(options.health_port),
                gateway=options.url(options.gateway.port) if options.gateway else None,
                endpoints=tuple(ready),
                classifiers=frozenset(each.name for each in self._endpoints if each.is_classifier),
                failed=(*self._unservable, *failed),
            )
        )

    def _heal(self, model: str, orphans_gone: Callable[[], bool]) -> None:
        started = time.monotonic()
        try:
            watch.heal(self.control, model, orphans_gone, self._options.load_timeout)
        except watch.RecoveryFailed as error:
            self.restart_reason = f"{model} can't be reloaded without restarting tritonserver: {error}"
        except control_api.Gone as error:
            self._require_end(error)
        else:
            self.models.set(model, Phase.LOADED)
            self._report.step(f"{model}: recovered after {time.monotonic() - started:.1f} s")

    def _require_end(self, error: control_api.Gone) -> None:
        """Restarts a tritonserver that closed a connection without ending; the watch notices one that ended."""
        if not watch.within(_DYING_SECONDS, lambda: self.server.exit_status() is not None):
            self.restart_reason = f"tritonserver does not answer: {error}"

    def _broke(self, activity: str, error: Exception) -> None:
        self.restart_reason = f"{activity} failed unexpectedly: {error!r}"
