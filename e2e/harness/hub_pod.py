"""The tests' model hub as a pod of the cluster. Runs there, beside a copy of tritonllm/tests/hub_server.py.

Reads `{repository: {"access": …, "files": {path: text}, "zeros": {path: size}, "directory": …}}`: files by their
text, so many bytes of nothing, or what is in a directory of the image. Prints a line a request.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import hub_server

PORT = 8080


class _Hub(hub_server.HubServer):
    def answer(self, request: hub_server.Request) -> hub_server.Answer:
        if request.path == "/healthz":
            return hub_server.Answer(200)
        # One write: threads must not share a line.
        print(f"{request.method} {request.path}\n", end="", flush=True)
        return super().answer(request)


def main(repositories: dict[str, Any]) -> None:
    """Serves them until SIGTERM."""
    # Nobody else handles it: the kernel ignores it for the first process of a container.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with _Hub(address=("0.0.0.0", PORT)) as hub:
        for repo, described in repositories.items():
            _add(hub, repo, described)
        signal.pause()


def _add(hub: hub_server.HubServer, repo: str, described: dict[str, Any]) -> None:
    files: dict[str, bytes | Path] = {
        path: text.encode() for path, text in described.get("files", {}).items()
    }
    if directory := described.get("directory"):
        files |= {path.name: path for path in Path(directory).iterdir()}
    files |= {path: bytes(size) for path, size in described.get("zeros", {}).items()}
    hub.add(repo, files, access=described.get("access", "public"))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
