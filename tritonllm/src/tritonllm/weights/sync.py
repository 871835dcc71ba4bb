"""One repository from the Hub into the cache: found complete, or downloaded, verified and published.

Correct without any lock: every download has a staging directory of its own, a directory is published by one rename,
and the process that comes second finds the valid directory and drops what it has.
"""

from __future__ import annotations

import contextlib
import dataclasses
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
    progress,
    retry,
    selection,
    staging,
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
# The second one adds what a faster process did not want.
_DOWNLOADS = 2
# What the same commit will meet again.
_HOPELESS = (failures.Corrupt, failures.NoSafetensors, failures.RevisionNotFound)


@dataclasses.dataclass(frozen=True)
class Source:
    """Which weights an endpoint wants.

    Attributes:
        repo: `organisation/name`.
        revision: branch, tag or commit.
        wanted: what may be loaded.
        commit: what the revision was resolved to elsewhere; None to resolve it here.
        refresh: resolve the revision again, whatever is known of it here; without effect with a commit.
    """

    repo: str
    revision: str
    wanted: selection.Wanted
    commit: str | None = None
    refresh: bool = False


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
    snapshot = cache.snapshot(source.repo, commit)
    found = marker.of(snapshot, snapshot.directory)
    if found is None or not found.serves(source.wanted):
        return None
    return Published(snapshot.directory, commit, found.size, downloaded=False)


def sync(cache: layout.Cache, source: Source, options: Options) -> Published:
    """Makes weights complete.

    Args:
        cache: where they shall be.
        source: which weights.
        options: how.

    Raises:
        Failure: see `failures`. Nothing is published then that was not before.
    """
    again = options.refresh or source.refresh
    moving = again and source.commit is None and not layout.is_commit(source.revision)
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
        self._retries = retry.Retries(options.max_wait_seconds, self._waiting)
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
            with self._alone(snapshot):
                published = self._complete(snapshot)
        except _HOPELESS:
            if marker.of(snapshot, snapshot.directory) is None:
                # The branch may have moved on to something better by the next attempt.
                self._forget(commit)
            raise
        if moving:
            # Only now: until the new commit is here, those who ask for the branch get the old one.
            self._record(commit)
        return published

    def _complete(self, snapshot: layout.Snapshot) -> Published:
        """Downloads until what is wanted is there; more than once if another process published less at the same time."""
        source = dataclasses.replace(self._source, commit=snapshot.commit)
        found = find(self._cache, source)
        for _ in range(_DOWNLOADS):
            if found is not None:
                break
            self._bring(dataclasses.replace(snapshot, attempt=f".{uuid.uuid4().hex}"))
            found = find(self._cache, source)
            found = found and dataclasses.replace(found, downloaded=True)
        if found is None:
            raise failures.NotWritable(
                f"{snapshot.directory} was written and is not complete; check the volume, and who else writes to it"
            )
        return found

    def _resolve(self) -> str:
        source = self._source
        return self._retries.run(lambda: self._hub.commit(source.repo, source.revision))

    def _record(self, commit: str) -> None:
        source = self._source
        if source.commit or layout.is_commit(source.revision):
            return
        if self._cache.recorded(source.repo, source.revision) != commit:
            with volume.writing(f"the commit of {source.repo} at {source.revision}"):
                volume.replace(self._cache.ref(source.repo, source.revision), f"{commit}\n".encode())

    def _forget(self, commit: str) -> None:
        source = self._source
        if source.commit is None and self._cache.recorded(source.repo, source.revision) == commit:
            self._cache.ref(source.repo, source.revision).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _alone(self, snapshot: layout.Snapshot) -> Iterator[None]:
        """Lets processes that want the same commit come one after another, where locks work."""
        with contextlib.ExitStack() as stack:
            with volume.writing(str(snapshot.lock)):
                stack.enter_context(lock.exclusive(snapshot.lock, self._turn(snapshot)))
            # The wait for others was no failure of the Hub.
            self._retries.progress()
            yield

    def _turn(self, snapshot: layout.Snapshot) -> Callable[[], bool]:
        """Waits while the holder of the lock lives, by what it writes."""
        latest, since, told = staging.beats(snapshot), time.monotonic(), False

        def wait() -> bool:
            nonlocal latest, since, told
            if not told:
                self._options.say(f"{snapshot.repo}: another process downloads it; waiting")
                told = True
            time.sleep(_LOCK_POLL_SECONDS)
            beats = staging.beats(snapshot)
            if beats != latest:
                latest, since = beats, time.monotonic()
            return time.monotonic() - since < _HOLDER_SILENT_SECONDS

        return wait

    def _bring(self, place: layout.Snapshot) -> None:
        with volume.writing(str(place.staging)):
            staging.inherit(place)
        with progress.Progress(place.repo, place.commit, place.progress, self._options.show) as shown:
            self._progress = shown
            listed = self._retries.run(lambda: self._hub.files(place.repo, place.commit))
            before = marker.of(place, place.directory)
            if before is not None and before.wanted.adapter != self._source.wanted.adapter:
                raise failures.Corrupt(
                    f"{place.directory} already holds {place.repo} as"
                    f" {'an adapter' if before.wanted.adapter else 'a model'}, and one commit can't be used as both;"
                    " remove the other use"
                )
            wanted = self._source.wanted.joined(before.wanted) if before else self._source.wanted
            chosen = selection.select(listed, wanted, place.repo)
            if not self._source.wanted.allow_pickle:
                selection.select(listed, self._source.wanted, place.repo)
            there = before.files if before else ()
            known = {file.path for file in there}
            missing = [file for file in chosen.files if file.path not in known]
            with volume.writing(str(place.staging)):
                staging.prepare(place, {file.path for file in missing}, adopt=before is None)
            fetched = sorted(self._fetch(place, missing), key=lambda file: file.path)
            files = (*there, *fetched)
            with volume.writing(str(place.staging)):
                problems = [] if before else list(integrity.problems(place.files, [f.path for f in files]))
            if problems:
                raise failures.Corrupt(
                    f"{place.repo} at {place.commit}: {problems[0]}; the repository itself is broken,"
                    " choose another revision"
                )
            declared = marker.Marker(place.repo, place.commit, wanted, chosen.format, files, wanted.digest())
            with volume.writing(str(place.directory)):
                staging.publish(place, declared, extend=before is not None)

    def _fetch(self, place: layout.Snapshot, missing: list[selection.RemoteFile]) -> list[marker.File]:
        """Downloads files, several at once; the first failure stops all."""
        assert self._progress is not None
        shown, needed = self._progress, sum(file.size for file in missing)
        shown.expect(needed, len(missing))
        volume.room(self._cache.root, needed - staging.size(place), place.repo)
        fetcher = download.Fetcher(
            self._hub,
            place.repo,
            place.commit,
            files=place.files,
            parts=place.parts,
            retries=self._retries,
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
                running = [pool.submit(fetch, file) for file in ordered]
                return [each.result() for each in futures.as_completed(running)]
            except BaseException:
                self._retries.cancel()
                pool.shutdown(cancel_futures=True)
                raise

    def _waiting(self, failure: failures.Failure, seconds: float) -> None:
        self._options.say(f"{self._source.repo}: {failure}; trying again in {seconds:.0f} s")
        if self._progress is not None:
            self._progress.say(str(failure))
