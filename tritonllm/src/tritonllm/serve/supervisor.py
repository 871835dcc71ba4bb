"""The supervisor: checks, renders, starts tritonserver, watches it, drains and cleans up. `run` is its entry point."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tritonllm import api, files, paths, render
from tritonllm.ipc import listener, names, run_token
from tritonllm.runtime import metric_names, shared_names
from tritonllm.serve import (
    api_lock,
    binaries,
    child,
    connections,
    control_api,
    desired,
    gateway,
    gpus,
    health,
    health_port,
    preflight,
    processes,
    stale_runs,
    triton,
    watch,
)
from tritonllm.serve.options import Options
from tritonllm.serve.server_instance import ServerInstance
from tritonllm.serve.signals import Signals
from tritonllm.weights import endpoints as weights_of
from tritonllm.weights import layout

_TICK_SECONDS = 0.5
_START_SECONDS = 60.0
# Nothing that the main loop waits for takes this long.
_STUCK_SECONDS = 30.0
# Models report their gauges every 0.2 s, so a request that has just arrived is not yet counted.
_QUIET_SECONDS = 0.5
# A tritonserver that takes longer to report its metrics is busy.
_COUNT_SECONDS = 1.0
_GAUGES = (metric_names.RUNNING, metric_names.WAITING)


def run(options: Options) -> int:
    """Serves until a signal requests a shutdown.

    Call it in the main thread of a process that does nothing else: it kills all descendants of the process.

    Args:
        options: what to serve, and where.

    Returns:
        The exit code: 0 after SIGTERM or Ctrl-C; 1 if no endpoint can be served, or the restart budget is exhausted.

    Raises:
        files.Invalid: the endpoint files are invalid.
        preflight.PreflightError: the endpoints can't be served on this machine.
    """
    # First of all: the kernel drops signals to the first process of a container that have no handler.
    with Signals() as signals:
        watched = desired.EndpointFiles(options.files, files.load_readable, options.reporter.problem)
        binary = binaries.find()
        gpu = Path("/dev/nvidiactl").exists()
        # Once: later, what engines of this server have not given back yet would count as taken.
        machine = gpus.read() if gpu else None
        preflight.check(options, _pinned(options, watched.endpoints()), binary, gpu=gpu, machine=machine)
        assert binary is not None
        processes.become_subreaper()
        with (
            stale_runs.acquire() as run_lock,
            _log(options, run_lock) as log,
            processes.Reaper(run_lock.name, run_lock.directory) as reaper,
        ):
            return _Supervisor(
                options, watched, binary, run_lock, log, signals, reaper, gpu=gpu, machine=machine
            ).run()


class _Supervisor:
    """State that outlives a restart of tritonserver; everything else is in `ServerInstance`."""

    def __init__(
        self,
        options: Options,
        watched: desired.EndpointFiles,
        binary: binaries.Binary,
        run_lock: stale_runs.RunLock,
        log: BinaryIO,
        signals: Signals,
        reaper: processes.Reaper,
        *,
        gpu: bool,
        machine: gpus.Machine | None,
    ) -> None:
        self._options = options
        self._report = options.reporter
        self._binary = binary
        self._backends = _prepared(binary)
        self._run_lock = run_lock
        self._log = log
        self._signals = signals
        self._reaper = reaper
        self._gpu = gpu
        self._machine = machine
        self._lock = api_lock.read(options.api_secret_file)
        self._files = watched
        self._repository = (run_lock.directory / "repository").absolute()
        self._environment = binary.environment(os.environ) | {shared_names.VARIABLE: run_lock.region_prefix}
        self._environment[listener.DIRECTORY] = str(run_lock.directory.absolute())
        self._environment[run_token.VARIABLE] = secrets.token_urlsafe(32)
        self._environment[names.TRITON] = options.url(options.http_port)
        if options.gateway is not None:
            self._environment[names.GATEWAY_PROCESSES] = str(options.gateway.workers)
        if options.upstream_keys is not None:
            self._environment[names.UPSTREAM_KEYS] = str(options.upstream_keys)
        if options.allow_direct_engine:
            self._environment[run_token.ALLOW_DIRECT] = "1"
        self._orphans = processes.Orphans()
        self._restarts = watch.RestartBudget()
        self._current: ServerInstance | None = None
        self._in_use = contextlib.ExitStack()
        self._hung: dict[str, str] = {}
        self._note = "tritonserver is starting"
        self._turned = time.monotonic()
        self._gateway: gateway.Gateway | None = None

    def run(self) -> int:
        ready, live = health_port.Cached(self._readiness), health_port.Cached(self._liveness)
        # The shutdown is not cached: from the signal on, no client should send another request.
        questions = {
            "/readyz": lambda: self._stopping(False) or ready(),
            "/livez": lambda: self._stopping(True) or live(),
            "/loading": lambda: (
                True,
                [json.dumps(current.loading.stages() if (current := self._current) else {})],
            ),
            "/unreadable": lambda: (True, [json.dumps(self._files.unreadable())]),
        }
        port = health_port.Port(self._options.host, self._options.health_port, questions, self._no_probes)
        try:
            self._gateway = self._start_gateway()
            return self._serve()
        finally:
            self._end(all_of_it=True)
            port.close()

    def _serve(self) -> int:
        while True:
            reason = self._start() or self._watch()
            if self._signals.count:
                self._drain()
                return 0
            hung = self._current is not None and self._current.hung is not None
            self._end()
            if reason is None:
                return 1
            # Leaving out an endpoint whose load hangs needs no budget: it happens once per endpoint.
            delay = 0.0 if hung else self._restarts.delay(time.monotonic())
            if delay is None:
                self._report.problem(f"{reason}\ngiving up: tritonserver was {self._restarts.exhausted()}")
                return 1
            self._note = "tritonserver is restarting"
            self._report.problem(f"{reason}\nrestarting tritonserver{f' in {delay:.0f} s' if delay else ''}")
            self._signals.wait(delay)

    def _start(self) -> str | None:
        """Starts tritonserver and begins to load its models; returns what went wrong, if anything."""
        endpoints = _pinned(self._options, self._files.endpoints())
        # Checked at each start, as weights come and go.
        found = preflight.unservable(self._options, endpoints, gpu=self._gpu, machine=self._machine)
        unservable = {**found, **self._hung}
        for name, problem in unservable.items():
            self._report.problem(f"{name} is not served: {problem}")
        self._in_use.close()
        self._in_use.enter_context(weights_of.in_use(endpoints, self._options.weights))
        self._write_repository(endpoints)
        command = triton.arguments(
            self._options,
            self._binary,
            repository=self._repository,
            backends=self._backends,
            region_prefix=self._run_lock.region_prefix,
            gpu=self._gpu,
            lock=self._lock,
        )
        server = child.Child("tritonserver", command, self._environment, self._log)
        started = time.monotonic()
        current = ServerInstance(self._options, endpoints, unservable, server, self._repository, self._lock)
        self._current = current
        while not current.control.live():
            self._turned = time.monotonic()
            if self._signals.count:
                return None
            if death := current.death():
                return death
            if time.monotonic() - started > _START_SECONDS:
                return f"tritonserver does not answer {_START_SECONDS:.0f} s after its start"
            self._signals.wait(0.05)
        self._report.step(f"tritonserver: started in {time.monotonic() - started:.1f} s")
        current.load()
        return None

    def _start_gateway(self) -> gateway.Gateway | None:
        """Starts the gateway, which outlives restarts of tritonserver."""
        chosen = self._options.gateway
        if chosen is None:
            return None
        directory = self._run_lock.directory.absolute()
        return gateway.Gateway(
            gateway.arguments(self._options, directory),
            self._options.url(chosen.port),
            self._environment,
            self._log,
            self._report,
        )

    def _watch(self) -> str | None:
        """Watches tritonserver until it needs a restart or `serve` ends.

        Returns:
            Why tritonserver has to be restarted; None to exit.
        """
        current = self._current
        assert current is not None
        trigger = watch.ProbeTrigger()
        while not self._signals.count:
            self._turned = time.monotonic()
            self._orphans.tend(current.server.pid, self._sessions())
            if trouble := current.death() or current.restart_reason:
                return trouble
            if current.hung is not None:
                self._hung[current.hung.endpoint] = str(current.hung)
            if current.load_failed or (current.hung and not current.servable(self._hung)):
                # One message, and the last one: Kubernetes shows the end of a terminated container's log.
                reasons = "".join(f"\n    {line}" for line in current.reasons())
                self._report.problem(f"no endpoint could be loaded, so there is nothing to serve:{reasons}")
                return None
            if current.hung is not None:
                return f"{current.hung.model}: {current.hung}; {current.hung.endpoint} is not served"
            alive, now = current.alive(), time.monotonic()
            current.watch_loading(alive, now)
            if trigger.should_check(alive, now):
                try:
                    for model in watch.confirmed_dead_models(current.index, current.alive, current.instances):
                        current.heal(model, self._orphans.gone)
                except (control_api.Unreachable, control_api.Refused):
                    trigger.retry()
            self._signals.wait(_TICK_SECONDS)
        return None

    def _drain(self) -> None:
        """Waits until no requests are in flight, then ends tritonserver; a second signal ends everything at once.

        Requests keep arriving while clients are connected; gRPC clients are asked to reconnect, and so to find another
        server, within `CONNECTION_AGE_SECONDS`.
        """
        current = self._current
        if current is None:
            return
        seconds = self._options.drain_seconds if current.started else 0
        deadline = time.monotonic() + seconds
        idle_since = time.monotonic()
        connection_deadline = time.monotonic() + triton.CONNECTION_AGE_SECONDS * (
            1 + triton.CONNECTION_AGE_VARIES
        )
        reported = False
        if self._gateway is not None:
            self._gateway.drain()
        while self._signals.count == 1 and time.monotonic() < min(deadline, idle_since + _QUIET_SECONDS):
            busy = _busy(current)
            clients = 0
            if time.monotonic() < connection_deadline:
                clients = connections.from_elsewhere(current.server.pid, self._options.grpc_port)
            if busy != 0 or clients or (self._gateway is not None and self._gateway.running()):
                idle_since = time.monotonic()
            if (busy or clients) and not reported:
                reported = True
                what = f"{busy or 0:.0f} requests and {clients} gRPC connections"
                self._report.step(f"draining: waiting up to {seconds:.0f} s for {what}")
            self._signals.wait(0.1)
        self._report.step("stopping tritonserver")
        current.stop(max(0.0, deadline - time.monotonic()), force=lambda: self._signals.count > 1)

    def _write_repository(self, endpoints: Sequence[api.LLMEndpoint]) -> None:
        self._repository.mkdir(exist_ok=True)
        for model, contents in render.repository(endpoints, weights=self._options.weights).items():
            for path, content in contents.items():
                file = self._repository / model / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)

    def _end(self, *, all_of_it: bool = False) -> None:
        """Ends all processes of the current tritonserver and removes its shared memory.

        Args:
            all_of_it: whether the gateway ends as well.
        """
        current, self._current = self._current, None
        if current is not None:
            current.server.kill()
        if self._gateway is not None and all_of_it:
            self._gateway.drain()
        if left := processes.end_all({self._reaper.pid} if all_of_it else self._sessions()):
            self._report.problem(f"could not kill the processes {', '.join(map(str, left))}")
        self._run_lock.clear_shared_memory()
        self._in_use.close()

    def _sessions(self) -> set[int]:
        """Sessions that are not tritonserver's; each is named after its first process."""
        gateway = self._gateway.session if self._gateway else None
        return {self._reaper.pid, gateway} if gateway else {self._reaper.pid}

    def _stopping(self, well: bool) -> health.ProbeResult | None:
        return (well, ["shutting down"]) if self._signals.count else None

    def _no_probes(self, error: Exception) -> None:
        self._report.problem(
            f"the port of /readyz and /livez failed, so probes fail until a restart: {error!r}"
        )

    def _readiness(self) -> health.ProbeResult:
        current = self._current
        if current is None or not current.started:
            return False, [self._note]
        statuses = current.models.statuses()
        required = desired.required_models(statuses, self._files.endpoints())
        ready, sentences = health.readiness(
            required,
            statuses,
            current.control.ready,
            time.monotonic(),
            self._files.gating(),
            current.loading.progress,
            self._files.unreadable(),
        )
        problem = self._gateway.problem() if self._gateway and required else None
        return (ready, sentences) if problem is None else (False, [problem, *sentences])

    def _liveness(self) -> health.ProbeResult:
        stuck = time.monotonic() - self._turned
        if stuck > _STUCK_SECONDS:
            return False, [f"the supervisor itself has been stuck for {stuck:.0f} s"]
        if self._gateway is not None and (broken := self._gateway.broken()):
            return False, [broken]
        current = self._current
        if current is None or not current.started:
            return True, [self._note]
        return current.liveness()


def _pinned(options: Options, endpoints: Sequence[api.LLMEndpoint]) -> list[api.LLMEndpoint]:
    """The endpoints, each with the commit of its weights that is in the cache now."""
    return weights_of.pinned(layout.Cache(Path(options.weights)), endpoints)


def _busy(current: ServerInstance) -> float | None:
    """Number of requests in flight or queued; None if tritonserver is too busy to tell."""
    try:
        return current.control.total(_GAUGES, _COUNT_SECONDS)
    except (control_api.Unreachable, control_api.Refused):
        return None if current.server.exit_status() is None else 0


def _prepared(binary: binaries.Binary) -> Path | None:
    try:
        return binaries.prepare(binary, paths.cache())
    except OSError as error:
        raise preflight.PreflightError(
            [f"can't write to the cache: {error}; set XDG_CACHE_HOME to a writable directory"]
        ) from None


@contextlib.contextmanager
def _log(options: Options, run_lock: stale_runs.RunLock) -> Iterator[BinaryIO]:
    if options.logs == "stderr":
        yield sys.stderr.buffer
        return
    path = run_lock.directory / "triton.log"
    options.reporter.step(f"tritonserver logs to {path}")
    with path.open("wb") as file:
        yield file
