"""One file from the Hub to the disk: goes on where it stopped, hashed as it is written, believed only when right."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tritonllm.weights import failures, integrity, retry, selection, volume

if TYPE_CHECKING:
    from tritonllm.weights.hub import Hub

# So that the disk writes while the network reads, and a container's memory is not taken up by unwritten pages.
_SYNC_BYTES = 64 << 20
# Wrong bytes once are a broken proxy's cache or a cut that looked whole; twice, they are what the Hub has.
_TRIES = 2


class Fetcher:
    """Fetches the files of one commit.

    Args:
        hub: where they are.
        repo: `organisation/name`.
        commit: 40 hexadecimal digits.
        files: directory of files that are whole.
        parts: directory of files that are not.
        retries: decides how often to ask.
        count: told of bytes that are there, and of bytes that turned out wrong as a negative number.
    """

    def __init__(
        self,
        hub: Hub,
        repo: str,
        commit: str,
        *,
        files: Path,
        parts: Path,
        retries: retry.Retries,
        count: Callable[[int], None],
    ) -> None:
        self._hub, self._repo, self._commit = hub, repo, commit
        self._files, self._parts = files, parts
        self._retries, self._count = retries, count

    def fetch(self, file: selection.RemoteFile) -> str:
        """Brings a file here. What an earlier run left is read again before it counts.

        Returns:
            SHA-256 of its content.

        Raises:
            Failure: see `failures`.
            Cancelled: a stop was requested; what is here stays.
        """
        whole, part = self._files / file.path, self._parts / file.path
        with volume.writing(file.path):
            whole.parent.mkdir(parents=True, exist_ok=True)
            part.parent.mkdir(parents=True, exist_ok=True)
            if whole.is_file():
                whole.replace(part)
            left = part.is_file()
        # What an earlier run left does not count as a try.
        for _ in range(_TRIES + left):
            with volume.writing(file.path), part.open("ab", buffering=0) as output:
                part_file = _PartFile(file, part, output, self._count)
                # To read what is there took its time.
                self._retries.progress()
                if part_file.size < file.size:
                    self._retries.run(lambda g=part_file: self._receive(g))
                os.fsync(output.fileno())
                if part_file.right:
                    part.replace(whole)
                    return part_file.sha256
                # What is not complete may be right: the Hub offered another file to go on with.
                if part_file.size >= file.size:
                    part_file.drop()
        raise failures.Corrupt(
            f"{file.path} of {self._repo} came twice with bytes that are not those of commit {self._commit};"
            " a proxy or mirror changes them: use another address, or try again later"
        )

    def _receive(self, part_file: _PartFile) -> None:
        """Fetches what is missing, or nothing where the Hub has another file under this name."""
        file = part_file.file
        with self._hub.content(self._repo, self._commit, file.path, part_file.size) as content:
            if content.size is not None and content.size != file.size:
                return
            if content.start != part_file.size:
                part_file.restart()
            if content.start != part_file.size:
                raise failures.HubUnreachable(
                    f"another part of {file.path} came than was asked for; check the proxy or mirror",
                    retry=True,
                )
            for chunk in content.chunks:
                self._retries.check()
                if part_file.add(chunk):
                    self._retries.progress()
                if part_file.size > file.size:
                    return
        if part_file.size < file.size:
            raise failures.HubUnreachable(
                f"the connection ended after {part_file.size} of {file.size} bytes of {file.path}", retry=True
            )


class _PartFile:
    """A file that is not whole yet, and the digests of what it holds.

    Args:
        file: what it shall become.
        path: where it is.
        output: open for appending, unbuffered.
        count: told of changes in bytes.
    """

    def __init__(
        self, file: selection.RemoteFile, path: Path, output: io.FileIO, count: Callable[[int], None]
    ) -> None:
        self.file = file
        self._path, self._output, self._count = path, output, count
        self._digests = integrity.Digests(file)
        self.size = self._digests.read(path)
        self._most, self._synced = self.size, self.size
        count(self.size)

    def add(self, chunk: bytes) -> bool:
        """Appends bytes; returns whether the file has never been as long."""
        with volume.writing(self.file.path):
            view = memoryview(chunk)
            while view:
                view = view[self._output.write(view) :]
            self.size += len(chunk)
            if self.size - self._synced >= _SYNC_BYTES:
                os.fdatasync(self._output.fileno())
                self._synced = self.size
        self._digests.update(chunk)
        self._count(len(chunk))
        longer = self.size > self._most
        self._most = max(self._most, self.size)
        return longer

    def restart(self) -> None:
        """Starts over, for a server that does not continue."""
        self._output.truncate(0)
        self._count(-self.size)
        self._digests = integrity.Digests(self.file)
        self.size = self._synced = 0

    def drop(self) -> None:
        """Forgets bytes that are wrong."""
        self._path.unlink()
        self._count(-self.size)

    @property
    def right(self) -> bool:
        """Whether it is what the commit has, and no other process has written to it."""
        written = os.fstat(self._output.fileno()).st_size
        return self.size == self.file.size == written and self._digests.right

    @property
    def sha256(self) -> str:
        """Of the content."""
        return self._digests.sha256
