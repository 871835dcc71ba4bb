"""The API server of the tests is one: it knows who asks, survives a kill, and ends with the tests."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import yaml

import pool
from api_server import ApiServer, binary


def token(kubeconfig: Path) -> dict[str, str]:
    (user,) = yaml.safe_load(kubeconfig.read_text())["users"]
    return {"Authorization": f"Bearer {user['user']['token']}"}


def alive(pid: str) -> bool:
    """Whoever reaps orphans may take its time; what is dead has no command line any more."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def test_what_it_kept_is_there_after_a_restart(api_server: ApiServer, namespace: str) -> None:
    api_server.restart()
    with api_server.client() as client:
        assert client.get(f"/api/v1/namespaces/{namespace}").json()["metadata"]["name"] == namespace


def test_a_service_account_may_do_nothing_until_a_role_says_so(api_server: ApiServer, namespace: str) -> None:
    inside = f"/api/v1/namespaces/{namespace}"
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    subject = {"kind": "ServiceAccount", "name": "one", "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "read"}
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
    with api_server.client() as client:
        client.post(f"{inside}/serviceaccounts", json={"metadata": {"name": "one"}}).raise_for_status()
        headers = token(api_server.kubeconfig_of(namespace, "one"))
        assert client.get(f"{inside}/pods", headers=headers).status_code == 403
        metadata = {"name": "read"}
        client.post(f"{rbac}/roles", json={"metadata": metadata, "rules": [rule]}).raise_for_status()
        client.post(
            f"{rbac}/rolebindings", json={"metadata": metadata, "roleRef": role, "subjects": [subject]}
        ).raise_for_status()
        # The authorizer reads roles from a watch of its own.
        pool.until(lambda: client.get(f"{inside}/pods", headers=headers).status_code == 200)


def test_it_ends_with_tests_that_were_killed(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import os, pathlib, signal, sys
        import api_server
        server = api_server.ApiServer(pathlib.Path(sys.argv[1]))
        server.start()
        for process in server._processes.values():
            print(process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    pids = done.stdout.split()
    assert len(pids) == 3
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_without_the_programs_it_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("PATH", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    with pytest.raises(
        RuntimeError, match=r"no etcd in KUBEBUILDER_ASSETS .* `tools/kubernetes\.sh` builds it"
    ):
        binary("etcd")
