"""Networks of companies: their own certificates, their proxies."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import shutil
import ssl
import subprocess
import threading
import urllib.parse
from pathlib import Path

import pytest

import weights_files
from integration import syncing

FILES = weights_files.model(30_000)

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody knows, with its key."""
    path = tmp_path / "hub.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path, "-out", tmp_path / "ca.pem",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + (tmp_path / "ca.pem").read_bytes())
    return path


def outcome(setup: syncing.Setup, **environment: str) -> tuple[str, str]:
    child = syncing.Child(setup, syncing.Asked(max_wait_seconds=0.2), environment=environment)
    child.go()
    found = child.result()
    assert found is not None
    return found


@needs_openssl
def test_a_company_has_certificates_of_its_own(certificate: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with syncing.running(tls=tls) as setup:
        setup.server.add(syncing.REPO, FILES)
        reason, message = outcome(setup)
        assert reason == "HubUnreachable"
        assert "not trusted; name your CA bundle in SSL_CERT_FILE" in message
        assert outcome(setup, SSL_CERT_FILE=str(certificate.with_name("ca.pem")))[0] == "published"


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_bundle_that_is_none_is_said_to_be_none(tmp_path: Path, content: bytes | None) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_bytes(content)
    with syncing.running() as setup:
        reason, message = outcome(setup, SSL_CERT_FILE=str(bundle))
    assert reason == "HubUnreachable"
    assert "correct SSL_CERT_FILE" in message


class _Proxy(http.server.BaseHTTPRequestHandler):
    """Takes the whole address in a request, and asks in the client's place."""

    def do_GET(self) -> None:
        found = urllib.parse.urlsplit(self.path)
        assert isinstance(self.server, _Proxies)
        self.server.asked.append(self.path)
        connection = http.client.HTTPConnection(found.netloc)
        with contextlib.closing(connection):
            connection.request(
                "GET", self.path.removeprefix(f"http://{found.netloc}"), headers=dict(self.headers)
            )
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.read())

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Proxies(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Proxy)
        self.asked: list[str] = []


def test_a_proxy_stands_between(monkeypatch: pytest.MonkeyPatch) -> None:
    with syncing.running() as setup, _Proxies() as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True).start()
        setup.server.add(syncing.REPO, FILES)
        address = f"http://127.0.0.1:{proxy.server_port}"
        found = outcome(setup, HTTP_PROXY=address, http_proxy=address, NO_PROXY="", no_proxy="")
        proxy.shutdown()
        assert found[0] == "published"
        assert len(proxy.asked) == len(setup.server.requests)
        assert all(asked.startswith(setup.server.url) for asked in proxy.asked)


@pytest.mark.parametrize("address", ["http://user:password@127.0.0.1:9", "strange://user:password@host:1"])
def test_a_proxy_that_does_not_work_keeps_its_password(address: str) -> None:
    with syncing.running() as setup:
        reason, message = outcome(setup, HTTP_PROXY=address, http_proxy=address, NO_PROXY="", no_proxy="")
    assert reason == "HubUnreachable"
    assert "proxy" in message.lower()
    assert "password" not in message
