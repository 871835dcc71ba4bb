"""Serves endpoints with the real tritonserver, for every integration test that needs one.

`running` is the only entry. Run as a script, this file is the server process itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from tritonllm import serve

MARK = "TRITONLLM_TEST_MARK"
_SHARED_MEMORY = Path("/dev/shm")
_STOP_SECONDS = 40


@dataclasses.dataclass
class Served:
    """A running supervisor.

    Attributes:
        http: URL of Triton's HTTP port.
        grpc: host and port of Triton's gRPC.
        metrics: URL of Triton's metrics, with the path.
        health: URL of the supervisor's port.
        gateway: URL of the gateway; empty if there is none.
        pid: of the supervisor.
        log: what supervisor, tritonserver and models print.
        files: the endpoint files.
    """

    http: str
    grpc: str
    metrics: str
    health: str
    log: Path
    files: list[Path]
    process: subprocess.Popen[bytes]
    gateway: str = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def triton(self) -> psutil.Process:
        """The tritonserver process.

        Raises:
            LookupError: there is none at the moment.
        """
        for child in psutil.Process(self.pid).children():
            with contextlib.suppress(psutil.Error):
                if child.name() == "tritonserver" and child.status() != psutil.STATUS_ZOMBIE:
                    return child
        raise LookupError("no tritonserver runs")

    def stubs(self, model: str) -> list[psutil.Process]:
        """The processes of a model: two while it is being replaced."""
        found = []
        for child in self.triton.children():
            with contextlib.suppress(psutil.Error):
                if child.status() != psutil.STATUS_ZOMBIE and f"/{model}/1/model.py" in " ".join(
                    child.cmdline()
                ):
                    found.append(child)
        return found

    def stub(self, model: str) -> psutil.Process:
        """The process of a model.

        Raises:
            LookupError: it has none at the moment.
        """
        found = self.stubs(model)
        if not found:
            raise LookupError(f"no process of {model} runs")
        return found[0]

    def probe(self, path: str) -> tuple[int, str]:
        """Status and text of `/readyz` or `/livez`; status 0 when nobody answers."""
        try:
            with urllib.request.urlopen(self.health + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def until_ready(self, seconds: float = 60) -> None:
        """Waits until `/readyz` says yes.

        Raises:
            AssertionError: the supervisor ended, or time is over; with its log.
        """
        until(lambda: self.process.poll() is not None or self.probe("/readyz")[0] == 200, seconds, self.story)
        assert self.process.poll() is None, f"the supervisor ended: {self.story()}"

    def story(self) -> str:
        """What to print when a test fails."""
        return f"{self.probe('/readyz')[1]}\n{self.log.read_text(errors='replace')[-6000:]}"


@contextlib.contextmanager
def running(
    endpoints: Sequence[str | Path],
    *,
    weights: str | Path = "/nonexistent",
    seconds: float = 120,
    wait: bool = True,
    environment: dict[str, str] | None = None,
    script: Path | None = None,
    gateway: dict[str, Any] | None = None,
    **options: Any,
) -> Iterator[Served]:
    """Serves endpoints until the end of the block, and checks that nothing stays behind.

    Args:
        endpoints: YAML texts, or files.
        weights: root of the weights.
        seconds: how long until ready.
        wait: whether to wait until `/readyz` says yes.
        environment: added to the server's environment.
        script: run in place of this file.
        gateway: fields of `serve.options.Gateway` besides its port; None runs none.
        options: further fields of `serve.Options`.

    Raises:
        AssertionError: it does not become ready, does not stop in order, or leaves something behind.
    """
    with tempfile.TemporaryDirectory(prefix="serve-test-") as name:
        directory = Path(name)
        files = [_file(endpoint, directory / f"endpoint{n}.yaml") for n, endpoint in enumerate(endpoints)]
        *numbers, gateway_port = free_ports(5)
        ports = dict(zip(("http_port", "grpc_port", "metrics_port", "health_port"), numbers, strict=True))
        chosen = {
            "files": [str(file) for file in files],
            "weights": str(weights),
            "logs": "stderr",
            **ports,
            **options,
        }
        if gateway is not None:
            chosen["gateway"] = {"port": gateway_port, **gateway}
        mark = uuid.uuid4().hex
        log = directory / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, str(script or __file__), json.dumps(chosen)],
                env=os.environ | (environment or {}) | {MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        urls = {port.removesuffix("_port"): f"http://127.0.0.1:{number}" for port, number in ports.items()}
        urls["grpc"] = urls["grpc"].removeprefix("http://")
        urls["metrics"] += "/metrics"
        served = Served(**urls, log=log, files=files, process=process)
        if gateway is not None:
            served.gateway = f"http://127.0.0.1:{gateway_port}"
        names: set[str] = set()
        try:
            if wait:
                served.until_ready(seconds)
            names = owned(process.pid)
            yield served
        finally:
            killed = process.poll() == -signal.SIGKILL
            names |= owned(process.pid)
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            story = served.story()
            left = _left(mark)
            for other in left:
                with contextlib.suppress(psutil.Error):
                    other.kill()
        # Only where the block itself raised nothing, whose error would be hidden.
        assert killed or process.returncode in (0, 1), f"exit code {process.returncode}\n{story}"
        assert not left, f"left behind: {left}\n{story}"
        regions = [path.name for name in names for path in shared_memory(name)]
        assert not regions, f"left in shared memory: {regions}\n{story}"


def until(condition: Callable[[], object], seconds: float, story: Callable[[], str] = str) -> None:
    """Waits for a condition.

    Raises:
        AssertionError: it does not come true in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {story()}"
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def owned(pid: int) -> set[str]:
    """What names of the shared memory of a supervisor start with: it holds a lock file of that name."""
    names: set[str] = set()
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = descriptor.readlink()
                if target.parent == _SHARED_MEMORY and target.name.endswith("-owner"):
                    names.add(target.name.removesuffix("-owner"))
    return names


def shared_memory(name: str) -> set[Path]:
    """The shared memory files of a supervisor, by what their names start with; semaphores are among them."""
    return {*_SHARED_MEMORY.glob(f"{name}*"), *_SHARED_MEMORY.glob(f"sem.{name}*")}


def _left(mark: str) -> list[psutil.Process]:
    """Processes of this server that still run; those that end by themselves get a moment."""
    deadline = time.monotonic() + 20
    while left := [process for process in psutil.process_iter() if _marked(process, mark)]:
        if time.monotonic() > deadline:
            return left
        time.sleep(0.1)
    return []


def _marked(process: psutil.Process, mark: str) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark
    return False


def _file(endpoint: str | Path, place: Path) -> Path:
    if isinstance(endpoint, Path):
        return endpoint
    place.write_text(endpoint)
    return place


def options(text: str) -> serve.Options:
    """The options that `running` gives to its script, from the command line's only argument."""
    from tritonllm import serve

    given = json.loads(text)
    given["files"] = tuple(Path(file) for file in given["files"])
    if "gateway" in given:
        from tritonllm.serve import options as serve_options

        given["gateway"] = serve_options.Gateway(**given["gateway"])
    if "api_secret_file" in given:
        given["api_secret_file"] = Path(given["api_secret_file"])
    return serve.Options(**given)


if __name__ == "__main__":
    from tritonllm import serve

    sys.exit(serve.run(options(sys.argv[1])))
