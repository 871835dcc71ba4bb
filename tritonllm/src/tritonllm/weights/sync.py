"""One repository from the Hub into the cache: found complete, or downloaded, verified and published.

Correct without any lock: a download that runs beside another one has a staging directory of its own, a directory
is published by one rename, and whoever comes second finds the valid directory and drops what it has.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING

from tritonllm.weights import (
    download,
    failures,
    integrity,
    layout,
    lock,
    marker,
    patience,
    progress,
    selection,
    volume,
)

if TYPE_CHECKING:
    # Imported only by who really asks: it takes longer than finding a complete directory.
    from tritonllm.weights.hub import Hub

# Enough to hide the wait for the next file; more only splits the same line.
_WORKERS = 4
_LOCK_POLL_SECONDS = 0.2
# A holder of a lock writes progress every second. One that has not for so long is gone, or as good as gone.
_HOLDER_SILENT_SECONDS = 60.0
# What the same commit will meet again.
_HOPELESS = (failures.Corrupt, failures.NoSafetensors, failures.RevisionNotFound)


@dataclasses.dataclass(frozen=True)
class Source:
    """Which weights an endpoint wants.

    Attributes:
        repo: `organisation/name`.
        revision: branch, tag or commit.
        wanted: what may be loaded.
        commit: what the revision was resolved to before, by somebody else; None to look for oneself.
    """

    repo: str
    revision: str
    wanted: selection.Wanted
    commit: str | None = None


@dataclasses.dataclass(frozen=True)
class Options:
    """How to go about it.

    Attributes:
        hub: made when it is needed, which for a warm cache it is not.
        refresh: resolve branches and tags again.
        max_wait_seconds: without any progress.
        show: told how far it is.
        say: told what happens, in sentences.
    """

    hub: Callable[[], Hub]
    refresh: bool = False
    max_wait_seconds: float = 300
    show: Callable[[progress.State], None] = lambda state: None
    say: Callable[[str], None] = lambda sentence: None


@dataclasses.dataclass(frozen=True)
class Published:
    """Weights that can be served.

    Attributes:
        directory: of the files.
        commit: 40 hexadecimal digits.
        size: bytes of all files.
        downloaded: whether this run brought anything.
    """

    directory: Path
    commit: str
    size: int
    downloaded: bool


def find(cache: layout.Cache, source: Source) -> Published | None:
    """Weights that are complete, without asking anybody; None where they are not.

    Args:
        cache: where to look.
        source: which weights.
    """
    commit = source.commit or cache.recorded(source.repo, source.revision)
    if commit is None:
        return None
    directory = cache.snapshot(source.repo, commit).directory
    found = marker.read(directory)
    if found is None or not found.serves(source.wanted):
        return None
    return Published(directory, commit, found.size, downloaded=False)


def sync(cache: layout.Cache, source: Source, options: Options) -> Published:
    """Makes weights complete.

    Args:
        cache: where they shall be.
        source: which weights.
        options: how.

    Raises:
        Failure: see `failures`. Nothing is published then that was not before.
    """
    moving = options.refresh and source.commit is None and not layout.is_commit(source.revision)
    found = None if moving else find(cache, source)
    if found is not None:
        marker.touch(found.directory)
        return found
    hub = options.hub()
    hub.require_online(source.repo, source.revision)
    volume.probe(cache.root)
    return _Download(cache, source, options, hub).run(moving=moving)


class _Download:
    """What `sync` does where something is missing."""

    def __init__(self, cache: layout.Cache, source: Source, options: Options, hub: Hub) -> None:
        self._cache, self._source, self._options, self._hub = cache, source, options, hub
        self._patient = patience.Patience(options.max_wait_seconds, self._waiting)
        self._progress: progress.Progress | None = None

    def run(self, *, moving: bool) -> Published:
        source = self._source
        recorded = source.commit or self._cache.recorded(source.repo, source.revision)
        commit = recorded if recorded and not moving else self._resolve()
        if recorded is None:
            # At once, so that a download that was interrupted goes on with the same commit.
            self._record(commit)
        snapshot = self._cache.snapshot(source.repo, commit)
        try:
            with self._alone(snapshot) as place:
                known = dataclasses.replace(source, commit=commit)
                published = find(self._cache, known) or self._bring(place)
        except _HOPELESS:
            if marker.read(snapshot.directory) is None:
                # The branch may have moved on to something better by the next attempt.
                self._cache.ref(source.repo, source.revision).unlink(missing_ok=True)
            raise
        # Only now: until the new commit is here, those who ask for the branch get the old one.
        self._record(commit)
        return published

    def _resolve(self) -> str:
        source = self._source
        return self._patient.retry(lambda: self._hub.commit(source.repo, source.revision))

    def _record(self, commit: str) -> None:
        source = self._source
        if source.commit or layout.is_commit(source.revision):
            return
        if self._cache.recorded(source.repo, source.revision) != commit:
            with volume.writing(f"the commit of {source.repo} at {source.revision}"):
                volume.replace(self._cache.ref(source.repo, source.revision), f"{commit}\n".encode())

    @contextlib.contextmanager
    def _alone(self, snapshot: layout.Snapshot) -> Iterator[layout.Snapshot]:
        """The place to download to: shared by those who come one after another, else one's own."""
        with contextlib.ExitStack() as stack:
            with volume.writing(str(snapshot.lock)):
                held = stack.enter_context(lock.exclusive(snapshot.lock, self._turn(snapshot)))
            place = snapshot if held else dataclasses.replace(snapshot, attempt=f".{uuid.uuid4().hex}")
            try:
                yield place
            finally:
                if not held:
                    shutil.rmtree(place.staging, ignore_errors=True)

    def _turn(self, snapshot: layout.Snapshot) -> Callable[[], bool]:
        """Waits while the holder of the lock lives, by what it writes."""
        latest, since, told = b"", time.monotonic(), False

        def wait() -> bool:
            nonlocal latest, since, told
            if not told:
                self._options.say(f"{snapshot.repo}: another process downloads it; waiting")
                told = True
            time.sleep(_LOCK_POLL_SECONDS)
            try:
                beat = snapshot.progress.read_bytes()
            except OSError:
                beat = b""
            if beat != latest:
                latest, since = beat, time.monotonic()
            return time.monotonic() - since < _HOLDER_SILENT_SECONDS

        return wait

    def _bring(self, place: layout.Snapshot) -> Published:
        with progress.Progress(place.repo, place.commit, place.progress, self._options.show) as shown:
            self._progress = shown
            listed = self._patient.retry(lambda: self._hub.files(place.repo, place.commit))
            before = marker.read(place.directory)
            wanted = self._source.wanted.joined(before.wanted) if before else self._source.wanted
            chosen = selection.select(listed, wanted, place.repo)
            if not self._source.wanted.allow_pickle:
                selection.select(listed, self._source.wanted, place.repo)
            there = before.files if before else ()
            known = {file.path for file in there}
            missing = [file for file in chosen.files if file.path not in known]
            with volume.writing(str(place.staging)):
                _stage(place, {file.path for file in missing}, adopt=before is None)
            files = (*there, *self._fetch(place, missing))
            if before is None:
                for problem in integrity.problems(place.files, [file.path for file in files]):
                    raise failures.Corrupt(
                        f"{place.repo} at {place.commit}: {problem}; the repository itself is broken,"
                        " choose another revision"
                    )
            declared = marker.Marker(place.repo, place.commit, wanted, chosen.format, files, wanted.digest())
            with volume.writing(str(place.directory)):
                _publish(place, declared, extend=before is not None)
        return Published(place.directory, place.commit, declared.size, downloaded=True)

    def _fetch(self, place: layout.Snapshot, missing: list[selection.RemoteFile]) -> list[marker.File]:
        """Downloads files, several at once; the first failure stops all."""
        assert self._progress is not None
        shown, needed = self._progress, sum(file.size for file in missing)
        shown.expect(needed, len(missing))
        here = sum(path.stat().st_size for path in place.staging.rglob("*") if path.is_file())
        volume.room(self._cache.root, needed - here, place.repo)
        fetcher = download.Fetcher(
            self._hub,
            place.repo,
            place.commit,
            files=place.files,
            parts=place.parts,
            patient=self._patient,
            count=shown.add,
        )

        def fetch(file: selection.RemoteFile) -> marker.File:
            digest = fetcher.fetch(file)
            shown.finish_file()
            return marker.File(file.path, file.size, digest)

        # The largest first, so that the end is not one thread's work.
        ordered = sorted(missing, key=lambda file: -file.size)
        with futures.ThreadPoolExecutor(_WORKERS, thread_name_prefix="download") as pool:
            try:
                return list(pool.map(fetch, ordered))
            except BaseException:
                self._patient.cancel()
                pool.shutdown(cancel_futures=True)
                raise

    def _waiting(self, failure: failures.Failure, seconds: float) -> None:
        self._options.say(f"{self._source.repo}: {failure}; trying again in {seconds:.0f} s")
        if self._progress is not None:
            self._progress.say(str(failure))


def _stage(place: layout.Snapshot, wanted: set[str], *, adopt: bool) -> None:
    """Prepares the staging directory, with what earlier runs left that is of use.

    Args:
        place: of the download.
        wanted: paths of the files to come.
        adopt: take back a directory that was renamed but never marked.
    """
    place.files.mkdir(parents=True, exist_ok=True)
    place.parts.mkdir(exist_ok=True)
    if adopt and place.directory.is_dir():
        if any(place.files.iterdir()):
            volume.discard(place.directory, place.home.parent / ".trash")
        else:
            place.files.rmdir()
            place.directory.rename(place.files)
    for root in (place.files, place.parts):
        for path in sorted(root.rglob("*"), reverse=True):
            if not path.is_dir() and str(path.relative_to(root)) not in wanted:
                path.unlink()


def _publish(place: layout.Snapshot, declared: marker.Marker, *, extend: bool) -> None:
    """Makes what is staged the published directory, or a part of it, and marks it."""
    volume.sync_tree(place.files)
    if extend:
        for path in [path for path in place.files.rglob("*") if path.is_file()]:
            target = place.directory / path.relative_to(place.files)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        volume.sync_tree(place.directory)
    else:
        try:
            place.files.rename(place.directory)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            # Somebody was faster. What is there is used where it is whole, else it makes room.
            if marker.read(place.directory) is not None:
                shutil.rmtree(place.staging)
                return
            volume.discard(place.directory, place.home.parent / ".trash")
            place.files.rename(place.directory)
        volume.sync(place.home)
    marker.write(place.directory, declared)
    shutil.rmtree(place.staging, ignore_errors=True)
