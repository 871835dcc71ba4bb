"""A small model hub on loopback: a real HTTP server with repositories, commits and a log of what was asked."""

from __future__ import annotations

import fnmatch
import hashlib
import http.server
import json
import re
import socket
import ssl
import struct
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Content = bytes | Path
Access = Literal["public", "gated", "private", "disabled"]

# As on the Hub: shorter files are plain objects of git.
LARGE_BYTES = 1024
_CHUNK = 1 << 18
_ROUTE = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/(?P<kind>revision|tree)/(?P<rev>[^/]+)")
_FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True)
class Request:
    """What a client asked.

    Attributes:
        method: GET or HEAD.
        path: without the query, decoded.
        query: as it came.
        headers: with names in lower case.
        elsewhere: it came to the second origin.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    elsewhere: bool


@dataclass
class Answer:
    """What the server is about to say. Faults change it.

    Attributes:
        status: of HTTP.
        headers: all but the length.
        body: of a file, the whole file.
        start: the first byte of the body that is sent.
        length: what `Content-Length` says; None for what is sent.
        cut: bytes after which the connection ends.
        reset: by a reset, then.
        pause: called before each chunk.
        path: that was asked for.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: Content = b""
    start: int = 0
    length: int | None = None
    cut: int | None = None
    reset: bool = False
    pause: Callable[[], object] = lambda: None
    path: str = ""

    @property
    def end(self) -> int:
        return len(self.body) if isinstance(self.body, bytes) else self.body.stat().st_size


Fault = Callable[[Answer], None]


@dataclass(frozen=True)
class File:
    """A file of a commit, with the digests that git and LFS give it."""

    content: Content
    size: int
    oid: str
    sha256: str | None

    def entry(self, path: str) -> dict[str, Any]:
        large = {"lfs": {"oid": self.sha256, "size": self.size, "pointerSize": 134}} if self.sha256 else {}
        return {"type": "file", "oid": self.oid, "size": self.size, "path": path, **large}


class Repository:
    """A repository.

    Attributes:
        commits: their files, by name.
        revisions: which commit a branch or tag is.
        access: who may read it.
    """

    def __init__(self, access: Access) -> None:
        self.commits: dict[str, dict[str, File]] = {}
        self.revisions: dict[str, str] = {}
        self.access = access


class HubServer:
    """A hub that runs inside a `with`.

    Attributes:
        url: of the hub.
        elsewhere: URL of a second origin that serves the same files.
        repositories: by name.
        tokens: that are accepted.
        requests: in the order of arrival.
        page_size: entries in one answer of the listing.
    """

    def __init__(
        self, tls: ssl.SSLContext | None = None, address: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        self.repositories: dict[str, Repository] = {}
        self.tokens: set[str] = set()
        self.requests: list[Request] = []
        self.page_size = 1000
        self._faults: list[tuple[str, Fault, list[int]]] = []
        self._errors: list[BaseException] = []
        self._lock = threading.Lock()
        self._servers = [_Server(self, False, address), _Server(self, True, ("127.0.0.1", 0))]
        if tls is not None:
            self._servers[0].socket = tls.wrap_socket(self._servers[0].socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._servers[0].server_port}"
        self.elsewhere = f"http://127.0.0.1:{self._servers[1].server_port}"

    def __enter__(self) -> HubServer:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        if self._errors:
            raise self._errors[0]

    def add(
        self, repo: str, files: Mapping[str, Content], revision: str = "main", access: Access = "public"
    ) -> str:
        """Commits files to a branch; returns the commit."""
        known = {path: _file(content) for path, content in files.items()}
        repository = self.repositories.setdefault(repo, Repository(access))
        listing = json.dumps({path: file.oid for path, file in sorted(known.items())})
        commit = hashlib.sha1(listing.encode()).hexdigest()
        repository.commits[commit] = known
        repository.revisions[revision] = commit
        return commit

    def fault(self, pattern: str, fault: Fault, times: int = sys.maxsize) -> None:
        """Lets something go wrong with the next requests for a path; `*` in the pattern crosses slashes."""
        self._faults.append((pattern, fault, [times]))

    def heal(self) -> None:
        """Ends all faults."""
        self._faults.clear()

    def asked(self, pattern: str = "*") -> list[Request]:
        """The requests for a path."""
        return [request for request in self.requests if fnmatch.fnmatchcase(request.path, pattern)]

    def answer(self, request: Request) -> Answer:
        """What the server says to a request."""
        with self._lock:
            self.requests.append(request)
            answer = self._right_answer(request)
            answer.path = request.path
            for pattern, fault, left in self._faults:
                if left[0] > 0 and fnmatch.fnmatchcase(request.path, pattern) and not request.elsewhere:
                    left[0] -= 1
                    fault(answer)
        return answer

    def failed(self, error: BaseException) -> None:
        """Notes an error of the server itself."""
        self._errors.append(error)

    def _right_answer(self, request: Request) -> Answer:
        found = _ROUTE.fullmatch(request.path) or _FILE.fullmatch(request.path)
        if found is None:
            return _refusal(404, "EntryNotFound", "Not here")
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in self.tokens:
            return _refusal(401, None, "Invalid credentials in Authorization header")
        repository = self.repositories.get(found["repo"])
        if repository is None or (repository.access == "private" and not token):
            return _refusal(401 if not token else 404, "RepoNotFound", "Repository not found")
        if repository.access == "disabled":
            return _refusal(403, None, "Access to this resource is disabled.")
        kinds = found.groupdict()
        if repository.access == "gated" and not token and "path" in kinds:
            return _refusal(401, "GatedRepo", "Access to this model is restricted")
        revision = urllib.parse.unquote(kinds["rev"])
        commit = repository.revisions.get(revision, revision)
        if commit not in repository.commits:
            return _refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = repository.commits[commit]
        if kinds.get("kind") == "revision":
            siblings = [{"rfilename": path} for path in files]
            return _json({"id": found["repo"], "sha": commit, "private": False, "siblings": siblings})
        if kinds.get("kind") == "tree":
            return self._listing(request, files)
        return _body(request, commit, files.get(found["path"]))

    def _listing(self, request: Request, files: dict[str, File]) -> Answer:
        query = dict(urllib.parse.parse_qsl(request.query))
        first = int(query.get("cursor", 0))
        folders = {path.rpartition("/")[0] for path in files if "/" in path}
        entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in folders]
        entries += [file.entry(path) for path, file in files.items()]
        answer = _json(entries[first : first + self.page_size])
        if first + self.page_size < len(entries):
            following = urllib.parse.urlencode({**query, "cursor": first + self.page_size})
            answer.headers["Link"] = f'<{self.url}{request.path}?{following}>; rel="next"'
        return answer


def _file(content: Content) -> File:
    sha256, size = hashlib.sha256(), 0
    for block in _blocks(content, 0):
        sha256.update(block)
        size += len(block)
    if size <= LARGE_BYTES:
        plain = b"".join(_blocks(content, 0))
        return File(content, size, _git(plain), None)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256.hexdigest()}\nsize {size}\n"
    return File(content, size, _git(pointer.encode()), sha256.hexdigest())


def _git(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def _blocks(content: Content, start: int) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield from (content[at : at + _CHUNK] for at in range(start, len(content), _CHUNK))
        return
    with content.open("rb") as file:
        file.seek(start)
        yield from iter(lambda: file.read(_CHUNK), b"")


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(value).encode())


def _refusal(status: int, code: str | None, message: str) -> Answer:
    answer = _json({"error": message}, status)
    answer.headers |= {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
    return answer


def _body(request: Request, commit: str, file: File | None) -> Answer:
    if file is None:
        return _refusal(404, "EntryNotFound", "Entry not found")
    headers = {"X-Repo-Commit": commit, "ETag": f'"{file.sha256 or file.oid}"', "Accept-Ranges": "bytes"}
    asked = _RANGE.fullmatch(request.headers.get("range", ""))
    if asked is None:
        return Answer(200, headers, file.content)
    start = int(asked[1])
    if start >= file.size:
        return Answer(416, {**headers, "Content-Range": f"bytes */{file.size}"})
    last = min(int(asked[2] or file.size), file.size - 1)
    headers["Content-Range"] = f"bytes {start}-{last}/{file.size}"
    return Answer(206, headers, file.content, start, length=last + 1 - start if asked[2] else None)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # Eight clients may come at once.
    request_queue_size = 64

    def __init__(self, hub: HubServer, elsewhere: bool, address: tuple[str, int]) -> None:
        super().__init__(address, _Handler)
        self.hub, self.elsewhere = hub, elsewhere

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        # Clients that leave, or do not trust our certificate, are what some tests are about.
        if error is not None and not isinstance(error, ConnectionError | ssl.SSLError):
            self.hub.failed(error)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        parts = urllib.parse.urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        # The revision stays quoted: a slash in it is no slash of the path.
        path = "%2F".join(map(urllib.parse.unquote, parts.path.split("%2F")))
        answer = self.server.hub.answer(
            Request(self.command, path, parts.query, headers, self.server.elsewhere)
        )
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        length = answer.end - answer.start
        self.send_header("Content-Length", str(length if answer.length is None else answer.length))
        self.end_headers()
        if self.command == "GET":
            self._send(answer, length)

    do_HEAD = do_GET

    def _send(self, answer: Answer, length: int) -> None:
        wanted = length if answer.length is None else answer.length
        most = wanted if answer.cut is None else min(answer.cut, wanted)
        sent = 0
        for block in _blocks(answer.body, answer.start):
            answer.pause()
            block = block[: most - sent]
            self.wfile.write(block)
            sent += len(block)
            if sent == most:
                break
        if sent < wanted:
            self.close_connection = True
            if answer.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        pass
