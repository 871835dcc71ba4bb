"""Small caches of weights on the disk, whole and broken."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tritonllm.weights import layout, marker, selection

REPO = "acme/tiny"
NOW = datetime.datetime.now(datetime.UTC)
GRACE = datetime.timedelta(days=7)
LATER = NOW + 2 * GRACE


def commit(digit: str) -> str:
    return digit * 40


def tensors(size: int = 64) -> bytes:
    """The smallest file of safetensors with so many bytes of weights."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + os.urandom(size)


def fill(directory: Path, **more: bytes) -> Path:
    """A model as people copy it around, with what nobody needs to serve it."""
    directory.mkdir(parents=True)
    files = {
        "model.safetensors": tensors(),
        "config.json": b"{}",
        "tokenizer.json": b'{"a": 1}',
        "README.md": b"# Tiny",
        "modeling.py": b"print()",
        "pytorch_model.bin": b"\x80",
    }
    for name, content in (files | more).items():
        (directory / name).write_bytes(content)
    return directory


def publish(cache: layout.Cache, digit: str = "a", repo: str = REPO, revision: str = "") -> layout.Snapshot:
    """A complete directory."""
    snapshot = cache.snapshot(repo, commit(digit))
    snapshot.directory.mkdir(parents=True)
    content = {"model.safetensors": tensors(), "config.json": b"{}"}
    for name, data in content.items():
        (snapshot.directory / name).write_bytes(data)
    files = tuple(
        marker.File(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in content.items()
    )
    wanted = selection.Wanted()
    marker.write(
        snapshot.directory,
        marker.Marker(repo, snapshot.commit, wanted, "safetensors", files, wanted.digest()),
    )
    if revision:
        ref = cache.ref(repo, revision)
        ref.parent.mkdir(exist_ok=True)
        ref.write_text(f"{snapshot.commit}\n")
    return snapshot


def stage(cache: layout.Cache, digit: str = "a", attempt: str = "", repo: str = REPO) -> layout.Snapshot:
    """What a download leaves that was killed."""
    place = layout.Snapshot(repo, commit(digit), cache.home(repo), attempt and f".{attempt * 32}")
    place.files.mkdir(parents=True)
    place.parts.mkdir()
    (place.parts / "model.safetensors").write_bytes(b"half")
    return place


@contextlib.contextmanager
def child(body: str, *arguments: object) -> Iterator[None]:
    """Another process that holds a lock until the block ends. Its body is the head of a `with`."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom tritonllm.weights import lock\n"
        f"with {body}:\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        assert process.stdin is not None
        process.stdin.close()


SERVING = "lock.in_use(Path(sys.argv[1]))"
DOWNLOADING = "lock.exclusive(Path(sys.argv[1]), lambda: False)"
