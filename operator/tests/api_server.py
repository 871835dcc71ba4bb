"""A real API server for tests and the controllers beside it, as processes of their own, gone when the tests are."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import yaml

ADMIN = "admin-of-the-tests"


class ApiServer:
    """A cluster without nodes: Deployments, ReplicaSets, Jobs and the garbage are looked after, and nothing runs.

    Nobody makes ServiceAccounts or ends a namespace's deletion, so each test takes a namespace of its own and leaves it.

    Attributes:
        url: where it listens.
        kubeconfig: of an administrator.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._ports = free_ports(3)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        # The kernel ends the processes with the thread that started them. This one lives as long as the server does.
        self._parent = ThreadPoolExecutor(1)
        self.url = f"https://127.0.0.1:{self._ports[0]}"
        self.kubeconfig = self._write_kubeconfig("admin", ADMIN)

    def start(self) -> None:
        """Starts etcd, then the API server and the controllers."""
        _, clients, peers = (f"https://127.0.0.1:{port}" for port in self._ports)
        clients = clients.replace("https", "http")
        # Nobody is a peer. But for peers etcd makes a key, and one is wanted to sign ServiceAccounts' tokens with.
        self._run(
            "etcd",
            f"--data-dir={self._state / 'etcd'} --unsafe-no-fsync --log-level=warn --peer-auto-tls"
            f" --listen-client-urls={clients} --advertise-client-urls={clients} --listen-peer-urls={peers}"
            f" --initial-advertise-peer-urls={peers} --initial-cluster=default={peers}",
        )
        self._until("etcd", lambda: httpx.get(f"{clients}/health", trust_env=False).is_success)
        (self._state / "tokens").write_text(f"{ADMIN},admin,admin,system:masters\n")
        self._start_api_server()

    def stop(self) -> None:
        """Ends all; what they held is lost with their directory."""
        for process in reversed(self._processes.values()):
            process.kill()
            process.wait()
        self._parent.shutdown()

    def restart(self) -> None:
        """Kills the API server and starts it again: every watch breaks, nothing that it kept is lost."""
        # The controllers would find it again only after a while.
        for name in ("kube-controller-manager", "kube-apiserver"):
            self._processes[name].kill()
            self._processes[name].wait()
        self._start_api_server()

    def client(self) -> httpx.Client:
        """An administrator's connection."""
        return httpx.Client(
            base_url=self.url,
            verify=ssl.create_default_context(cafile=str(self._certificate)),
            headers={"Authorization": f"Bearer {ADMIN}"},
            trust_env=False,
            timeout=30,
        )

    def kubeconfig_of(self, namespace: str, service_account: str) -> Path:
        """The kubeconfig of a ServiceAccount that exists."""
        place = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token"
        with self.client() as client:
            answer = client.post(place, json={"spec": {"expirationSeconds": 86400}}).raise_for_status().json()
        return self._write_kubeconfig(f"{namespace}-{service_account}", answer["status"]["token"])

    @property
    def _certificate(self) -> Path:
        return self._state / "certificates" / "apiserver.crt"

    def _start_api_server(self) -> None:
        key = self._state / "etcd" / "fixtures" / "peer" / "key.pem"
        self._run(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._ports[1]} --bind-address=127.0.0.1 --secure-port={self._ports[0]}"
            # Loopback can't be advertised, and nobody needs it.
            " --advertise-address=192.0.2.1 --endpoint-reconciler-type=none --service-cluster-ip-range=10.0.0.0/24"
            f" --cert-dir={self._state / 'certificates'} --token-auth-file={self._state / 'tokens'}"
            f" --service-account-issuer=https://kubernetes.default.svc --service-account-key-file={key}"
            f" --service-account-signing-key-file={key} --authorization-mode=RBAC"
            # It refuses pods whose ServiceAccount no controller has made.
            " --disable-admission-plugins=ServiceAccount",
        )
        self._until("kube-apiserver", self._ready)
        self._run(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig} --secure-port=0 --leader-elect=false"
            # By default it asks less often than tests do.
            " --kube-api-qps=500 --kube-api-burst=1000"
            " --controllers=deployment-controller,replicaset-controller,job-controller,garbage-collector-controller",
        )

    def _ready(self) -> bool:
        if not self._certificate.exists():
            return False
        with self.client() as client:
            return client.get("/readyz").is_success and client.get("/api/v1/namespaces/default").is_success

    def _run(self, name: str, arguments: str) -> None:
        command = ["setpriv", "--pdeathsig=KILL", "--", str(binary(name)), *arguments.split(" ")]
        with (self._state / f"{name}.log").open("ab") as log:
            self._processes[name] = self._parent.submit(
                lambda: subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            ).result()

    def _until(self, name: str, condition: Callable[[], bool], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        log = self._state / f"{name}.log"
        while True:
            with contextlib.suppress(httpx.TransportError):
                if condition():
                    return
            running = self._processes[name].poll() is None
            if not running or time.monotonic() > deadline:
                end = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
                raise RuntimeError(
                    f"{name} {'is not ready' if running else 'ended'}; the end of {log}:\n{end}"
                )
            time.sleep(0.05)

    def _write_kubeconfig(self, name: str, token: str) -> Path:
        path = self._state / f"{name}.kubeconfig"
        cluster = {"server": self.url, "certificate-authority": str(self._certificate)}
        whole = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "tests", "user": {"token": token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
            "current-context": "tests",
        }
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(whole))
        return path


@contextlib.contextmanager
def running(state: Path) -> Iterator[ApiServer]:
    """An API server that keeps everything in a directory, which is empty at first."""
    server = ApiServer(state)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def binary(name: str) -> Path:
    """Where etcd, kube-apiserver or kube-controller-manager is.

    Raises:
        RuntimeError: nowhere.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    built = sorted(cache.glob("tritonllm/kubernetes-*"), reverse=True)
    places = [os.environ.get("KUBEBUILDER_ASSETS"), os.environ.get("PATH"), *built, cache / "k8s-bin"]
    found = shutil.which(name, path=os.pathsep.join(str(place) for place in places if place))
    if found is None:
        raise RuntimeError(f"no {name} in KUBEBUILDER_ASSETS or on the PATH; `tools/kubernetes.sh` builds it")
    return Path(found)


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
