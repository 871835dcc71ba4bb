"""How a pipeline learns that its engine has sent a response: so that it never waits for one inside Triton.

Triton's response iterator, waiting, keeps its own lock while it waits for Python's (the GIL) to come back.
Meanwhile Triton's thread that brings the next response of that iterator waits for the iterator's lock and keeps
the one of all iterators; and a thread that begins or ends another call asks for that one with the GIL in its
hands. Then all three wait for each other, and the model never answers anybody again
(python_backend: `ResponseIterator::Next` in pb_response_iterator.cc, `Stub::ParentToStubMQMonitor` and
`Stub::GetResponseIterator` in pb_stub.cc). Seen on 24.10, and in the sources since 25.04.

An iterator that is asked for a response which has arrived does not wait. Triton returns from the sending of a
response when it has arrived, so the engine rings then, through a FIFO of the call's own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_MANY = 4096


class Doorbell:
    """The pipeline's end.

    Args:
        call_id: of the call, a UUID in hexadecimal; the engine gets it with the call.

    Raises:
        OSError: there can be no FIFO in the directory for temporary files.
    """

    def __init__(self, call_id: str) -> None:
        self._path = _path(call_id)
        os.mkfifo(self._path, 0o600)
        # Opened without waiting for the other end, and read with.
        self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(self._fd, True)

    def __enter__(self) -> Doorbell:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        self._path.unlink(missing_ok=True)

    def arrived(self, responses: Iterable[T]) -> Iterator[T]:
        """Yields responses as they arrive, until the engine has sent its last or is dead.

        Args:
            responses: Triton's iterator of them; the first has arrived when there is one.
        """
        rings = itertools.islice(self._rings(), 1, None)
        for _, response in zip(itertools.chain((None,), rings), responses, strict=False):
            yield response

    def _rings(self) -> Iterator[None]:
        while heard := os.read(self._fd, _MANY):
            for _ in heard:
                yield


class Ringer:
    """The engine's end.

    Args:
        call_id: what came with the call.

    Raises:
        ValueError: it is not a UUID.
        OSError: no pipeline waits for it.
    """

    def __init__(self, call_id: str) -> None:
        path = _path(call_id)
        self._fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        os.set_blocking(self._fd, True)
        # Both have it open: whoever is killed from now on leaves nothing behind.
        path.unlink()

    def ring(self) -> None:
        """Says that one more response has arrived."""
        # A pipeline that is gone hears nothing, and misses nothing.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._fd, b"\0")

    def close(self) -> None:
        """Says that it was the last."""
        os.close(self._fd)


def _path(call_id: str) -> Path:
    return Path(tempfile.gettempdir(), f"tritonllm-call-{uuid.UUID(call_id).hex}")
