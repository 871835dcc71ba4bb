"""Runs `sync` against a hub on loopback, here and in processes of its own that can be killed."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import multiprocessing.process
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

import hub_server
from tritonllm.weights import failures, hub, layout, lock, progress, retry, selection, staging, sync

REPO = "org/name"
_MEMORY = Path("/dev/shm")
# So that nobody waits for what takes seconds on a real network.
_QUICK: list[tuple[Any, str, float]] = [
    (retry, "_FIRST_SECONDS", 0.01),
    (progress, "_PERIOD_SECONDS", 0.05),
    (staging, "_SILENT_SECONDS", 0.05),
    (sync, "_LOCK_POLL_SECONDS", 0.01),
]
# Loaded when they are needed first: here once, and not in each child, which may not be allowed to read them.
_LOADED = (huggingface_hub.hf_hub_url, huggingface_hub.close_session, "".encode("idna"))
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["pytest", "integration.syncing"])


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a sync is asked for.

    Attributes:
        revision: branch, tag or commit.
        commit: what somebody else resolved it to.
        wanted: what may be loaded.
        refresh: resolve again, as `weights sync --refresh` does.
        requested: resolve again, as an endpoint asks for it.
        token: to ask with.
        max_wait_seconds: without progress.
    """

    revision: str = "main"
    commit: str | None = None
    wanted: selection.Wanted = dataclasses.field(default_factory=selection.Wanted)
    refresh: bool = False
    requested: bool = False
    token: str | None = None
    max_wait_seconds: float = 5

    @property
    def source(self) -> sync.Source:
        return sync.Source(REPO, self.revision, self.wanted, self.commit, self.requested)


@dataclasses.dataclass
class Setup:
    """A hub, and a cache to fill from it.

    Attributes:
        server: the hub.
        cache: on this machine.
        said: what `sync` told people.
        shown: how far it was.
    """

    server: hub_server.HubServer
    cache: layout.Cache
    said: list[str] = dataclasses.field(default_factory=list)
    shown: list[progress.State] = dataclasses.field(default_factory=list)

    def sync(self, revision: str = "main", **changes: Any) -> sync.Published:
        asked = Asked(revision, **changes)
        return _sync(self.server.url, self.cache, asked, self.said.append, self.shown.append)

    def find(self, revision: str = "main", **changes: Any) -> sync.Published | None:
        return sync.find(self.cache, Asked(revision, **changes).source)

    def fails(self, kind: type[failures.Failure], revision: str = "main", **changes: Any) -> str:
        """Syncs, which must fail in this way and publish nothing; returns the message."""
        before = set(self.cache.published())
        with pytest.raises(kind) as caught:
            self.sync(revision, **changes)
        assert set(self.cache.published()) == before
        return str(caught.value)

    def leftovers(self) -> list[str]:
        """What is in the cache that is neither published nor recorded."""
        kept = {snapshot.directory for snapshot in self.cache.published()}
        kept |= {path for kind in ("refs", ".locks") for path in self.cache.root.glob(f"*--*/{kind}")}
        files = (path for path in self.cache.root.rglob("*") if path.is_file())
        return [str(path.relative_to(self.cache.root)) for path in files if not kept & set(path.parents)]

    def downloads(self, name: str = "*") -> list[hub_server.Request]:
        return self.server.asked(f"*/resolve/*/{name}")


@contextlib.contextmanager
def running(**server: Any) -> Iterator[Setup]:
    """A hub with nothing in it, and an empty cache: in memory, where syncing takes no time."""
    with (
        hub_server.HubServer(**server) as hubs,
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as directory,
    ):
        for module, name, seconds in _QUICK:
            patch.setattr(module, name, seconds)
        try:
            yield Setup(hubs, layout.Cache(Path(directory, "cache")))
        finally:
            huggingface_hub.close_session()


def content(directory: Path) -> dict[str, bytes]:
    """The files of a published directory."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.name != layout.MARKER]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


class Child:
    """A process that syncs.

    Args:
        setup: what with.
        asked: what for.
        locks: False lets every lock be granted to everybody, as some network file systems do.
        die_at: kills itself before so many changes to the cache; None to live.
        count: says how many changes it made instead of where it published.
        uid: to become.
        silent_seconds: after which a download that writes nothing is taken for dead.
        environment: more of it.
    """

    def __init__(
        self,
        setup: Setup,
        asked: Asked | None = None,
        *,
        locks: bool = True,
        die_at: int | None = None,
        count: bool = False,
        uid: int | None = None,
        silent_seconds: float = 0.05,
        environment: dict[str, str] | None = None,
    ) -> None:
        self._here, there = _processes.Pipe()
        arguments = (
            setup.server.url,
            setup.cache,
            asked or Asked(),
            locks,
            die_at,
            count,
            uid,
            silent_seconds,
        )
        self.process: multiprocessing.process.BaseProcess = _processes.Process(
            target=_child, args=(there, environment or {}, *arguments), daemon=True
        )
        self.process.start()
        there.close()
        assert self._here.recv() == "ready"

    def go(self) -> None:
        """Begins."""
        self._here.send("go")

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.join()
        self._here.close()

    def result(self) -> tuple[str, str] | None:
        """`published` and the directory, or the reason and the message; None if it was killed."""
        with contextlib.suppress(EOFError), self._here:
            found = self._here.recv()
            self.process.join()
            return found
        self.process.join()
        assert self.process.exitcode == -signal.SIGKILL
        return None


def _sync(url: str, cache: layout.Cache, asked: Asked, say: Any, show: Any) -> sync.Published:
    options = sync.Options(
        hub=lambda: hub.Hub(url, asked.token),
        refresh=asked.refresh,
        max_wait_seconds=asked.max_wait_seconds,
        show=show,
        say=say,
    )
    return sync.sync(cache, asked.source, options)


def _child(
    pipe: multiprocessing.connection.Connection,
    environment: dict[str, str],
    url: str,
    cache: layout.Cache,
    asked: Asked,
    locks: bool,
    die_at: int | None,
    count: bool,
    uid: int | None,
    silent_seconds: float,
) -> None:
    for module, name, seconds in _QUICK:
        setattr(module, name, seconds)
    staging._SILENT_SECONDS = silent_seconds
    os.environ.update(environment)
    if not locks:
        lock.fcntl.flock = lambda descriptor, operation: None  # pyright: ignore
    if uid is not None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    pipe.send("ready")
    pipe.recv()
    made = _counted(str(cache.root), die_at) if count or die_at else [0]
    try:
        published = _sync(url, cache, asked, lambda sentence: None, lambda state: None)
    except failures.Failure as failure:
        pipe.send((failure.reason, str(failure)))
    else:
        pipe.send(("published", str(made[0] if count else published.directory)))


def _counted(root: str, die_at: int | None) -> list[int]:
    """Counts the changes to what is below a directory, and kills this process before one of them."""
    made = [0]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        changes = event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")
        # How far it is, is written by the clock.
        if (writes or changes) and root in str(arguments[0]) and ".progress." not in str(arguments[0]):
            made[0] += 1
            if made[0] == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return made
