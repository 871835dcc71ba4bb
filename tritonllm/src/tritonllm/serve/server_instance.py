"""One tritonserver from its start to its end, with what is known of its models and what is done to them.

The supervisor replaces it as a whole when only a new start helps; threads that still work for an old one
find its port closed and end.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tritonllm import api
from tritonllm.runtime import metric_names
from tritonllm.serve import control_api, health, loader, processes, triton, watch
from tritonllm.serve.api_lock import Lock
from tritonllm.serve.model_states import ModelStates, Phase
from tritonllm.serve.options import Options
from tritonllm.serve.report import Serving

_QUESTION_SECONDS = 2.0
_SHOWN_LINES = 15
_CAUSE_LINES = 200
# Requests to an engine itself are in no pipeline's drain.
_DIRECT_SECONDS = 10.0
_ENGINE_GAUGES = (metric_names.ENGINE_RUNNING, metric_names.ENGINE_WAITING)
# A request that a pipeline just took has not yet called its engine.
_LAST_SECONDS = 1.0


class ServerInstance:
    """A running tritonserver and its models.

    Attributes:
        server: the process.
        control: its API.
        models: their states.
        started: tritonserver answers, and models are or were being loaded.
        restart_reason: why only a new start helps, if so.
        load_failed: loading is over and no endpoint came of it, though there were some.
    """

    def __init__(
        self,
        options: Options,
        endpoints: Sequence[api.LLMEndpoint],
        unservable: Mapping[str, str],
        server: triton.Server,
        repository: Path,
        lock: Lock,
    ) -> None:
        """Knows the process; `load` begins to fill it.

        Args:
            options: what the user chose.
            endpoints: what shall be served.
            unservable: those that need not be tried, by name, with the reason.
            server: the process.
            repository: its model repository.
            lock: of its API.
        """
        self.server = server
        self.control = control_api.ControlApi(
            options.url(options.http_port),
            options.url(options.grpc_port).removeprefix("http://"),
            options.url(options.metrics_port),
            lock,
        )
        self.models = ModelStates(model for endpoint in endpoints for model in loader.order(endpoint))
        self.started = False
        self.restart_reason: str | None = None
        self.load_failed = False
        self._options = options
        self._report = options.reporter
        self._endpoints = endpoints
        self._unservable = unservable
        self._repository = repository
        for endpoint in endpoints:
            if endpoint.name in unservable:
                loader.give_up(loader.order(endpoint), unservable[endpoint.name], self.models)

    def death(self) -> str | None:
        """How tritonserver ended, with its last words; None while it runs."""
        status = self.server.exit_status()
        if status is None:
            return None
        self.server.close()
        lines = "".join(f"\n    {line}" for line in self.server.tail(_SHOWN_LINES))
        return f"tritonserver ended ({status}){'; its last lines:' if lines else ''}{lines}"

    def index(self) -> dict[str, str]:
        """Triton's state of each model that is loaded here; what others load is theirs to look after.

        Raises:
            control_api.Unreachable: Triton does not answer.
            control_api.Refused: it won't say.
        """
        own = self.models.statuses()
        return {model: state for model, state in self.control.index().items() if model in own}

    def reasons(self) -> list[str]:
        """Why endpoints could not be loaded: the model that failed, without those that only need it."""
        statuses = self.models.statuses()
        lines = []
        for endpoint in self._endpoints:
            failed = [model for model in loader.order(endpoint) if statuses[model].phase is Phase.FAILED]
            lines += [f"{model}: {statuses[model].reason}" for model in failed[:1]]
        return lines

    def alive(self) -> dict[str, frozenset[int]]:
        """Living processes by model."""
        return processes.stubs(self.server.pid, self._repository)

    def ask(self, guardrail: str) -> str | None:
        """Asks a guardrail model a question; returns what is wrong with the answer, if anything."""
        try:
            self.control.question(guardrail, _QUESTION_SECONDS)
        except (control_api.Refused, control_api.Unreachable) as error:
            return str(error)
        return None

    def load(self) -> None:
        """Loads every endpoint, in the background."""
        self.started = True
        threading.Thread(target=self._load, name="load", daemon=True).start()

    def heal(self, model: str, orphans_gone: Callable[[], bool]) -> None:
        """Brings a model back whose process died, in the background.

        Args:
            model: its name.
            orphans_gone: see `watch.heal`.
        """
        if self.models.try_mark_healing(model):
            self._report.problem(f"{model}: its process died; loading it again")
            threading.Thread(target=self._heal, args=(model, orphans_gone), name="heal", daemon=True).start()

    def stop(self, patience: float, force: Callable[[], bool]) -> None:
        """Lets the last requests end, and then ends tritonserver at once; what is left of its models is the caller's.

        Its own SIGTERM would not do: an idle keep-alive connection uses up the whole exit timeout.

        Args:
            patience: seconds that a request may still take that came in the last moment.
            force: whether nothing shall be waited for any more.
        """
        # In a thread, because a tritonserver that hangs would keep each call for seconds.
        finish = threading.Thread(target=self._finish, args=(patience,), name="finish", daemon=True)
        finish.start()
        watch.within(patience + _DIRECT_SECONDS, lambda: force() or not finish.is_alive())
        self.server.kill()

    def _finish(self, patience: float) -> None:
        """Takes no request any more and waits for those that were taken.

        Engines are not unloaded: vLLM needs ten seconds for that, in which clients would be refused that keep a
        connection, and find a closed one sooner this way.
        """
        engines = {endpoint.engine_name for endpoint in self._endpoints}
        with contextlib.suppress(control_api.Refused, control_api.Unreachable):
            loaded = [model for model, state in self.control.index().items() if state == "READY"]
            for model in loaded:
                if model not in engines:
                    self.control.unload(model)
            if watch.within(
                max(patience, _LAST_SECONDS), lambda: "UNLOADING" not in self.control.index().values()
            ):
                # An engine may have been asked directly.
                watch.within(_DIRECT_SECONDS, lambda: not self.control.total(_ENGINE_GAUGES))

    def _load(self) -> None:
        try:
            ready, failed = loader.load_all(
                [endpoint for endpoint in self._endpoints if endpoint.name not in self._unservable],
                self.control,
                self.models,
                self._report,
                lambda: self.server.tail(_CAUSE_LINES),
            )
        except control_api.Unreachable:
            return  # tritonserver ended; the watch says so
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
                endpoints=tuple(ready),
                failed=(*self._unservable, *failed),
            )
        )

    def _heal(self, model: str, orphans_gone: Callable[[], bool]) -> None:
        started = time.monotonic()
        try:
            watch.heal(self.control, model, orphans_gone)
        except watch.RecoveryFailed as error:
            self.restart_reason = f"{model} can't be brought back alone: {error}"
        except control_api.Unreachable:
            return  # tritonserver ended; the watch says so
        else:
            self.models.set(model, Phase.LOADED)
            self._report.step(f"{model}: works again after {time.monotonic() - started:.1f} s")
