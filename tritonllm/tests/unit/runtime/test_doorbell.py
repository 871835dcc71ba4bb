"""A pipeline takes an engine's responses when they have arrived, and never waits for one inside Triton."""

from __future__ import annotations

import collections
import os
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tritonllm.runtime import doorbell


class Arriving:
    """Responses as Triton's iterator has them: asked for one that has not arrived it would wait, for ever here."""

    def __init__(self, *arrived: str) -> None:
        self.arrived = collections.deque(arrived)
        self.closed = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.arrived:
            return self.arrived.popleft()
        assert self.closed, "it was asked for a response that has not arrived"
        raise StopIteration


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def call() -> str:
    return uuid.uuid4().hex


def test_each_response_is_taken_when_it_has_arrived(call: str) -> None:
    taken: list[str] = []
    one_more = threading.Semaphore(0)

    def take() -> None:
        for response in bell.arrived(responses):
            taken.append(response)
            one_more.release()

    with doorbell.Doorbell(call) as bell:
        ringer = doorbell.Ringer(call)
        responses = Arriving("first")
        ringer.ring()
        reader = threading.Thread(target=take)
        reader.start()
        for text in ("second", "third"):
            assert one_more.acquire(timeout=5)
            responses.arrived.append(text)
            ringer.ring()
        assert one_more.acquire(timeout=5)
        ringer.close()
        reader.join(timeout=5)
        assert not reader.is_alive()
    assert taken == ["first", "second", "third"]


def test_many_responses_that_arrived_meanwhile_are_all_taken(call: str) -> None:
    with doorbell.Doorbell(call) as bell:
        ringer = doorbell.Ringer(call)
        texts = [str(number) for number in range(10_000)]
        for _ in texts:
            ringer.ring()
        ringer.close()
        assert list(bell.arrived(Arriving(*texts))) == texts


def test_an_engine_waits_for_a_pipeline_that_is_far_behind(call: str) -> None:
    texts = [str(number) for number in range(100_000)]

    def ring() -> None:
        for _ in texts:
            ringer.ring()
        ringer.close()

    with doorbell.Doorbell(call) as bell:
        ringer = doorbell.Ringer(call)
        engine = threading.Thread(target=ring)
        engine.start()
        assert list(bell.arrived(Arriving(*texts))) == texts
        engine.join(timeout=5)
        assert not engine.is_alive()


def test_the_answer_of_an_engine_that_refused_the_call_is_taken(call: str) -> None:
    with doorbell.Doorbell(call) as bell:
        responses = Arriving("refused")
        responses.closed = True
        assert list(bell.arrived(responses)) == ["refused"]


def test_an_engine_that_dies_ends_the_waiting(call: str) -> None:
    with doorbell.Doorbell(call) as bell:
        child = os.fork()
        if child == 0:
            doorbell.Ringer(call).ring()
            os._exit(1)
        os.waitpid(child, 0)
        assert list(bell.arrived(Arriving("first"))) == ["first"]


def test_an_engine_whose_pipeline_is_gone_goes_on(call: str) -> None:
    with doorbell.Doorbell(call):
        ringer = doorbell.Ringer(call)
    ringer.ring()
    ringer.close()


@pytest.mark.parametrize("given", ["../../etc/passwd", "", "chat"])
def test_an_id_that_is_none_opens_nothing(given: str) -> None:
    with pytest.raises(ValueError, match="UUID"):
        doorbell.Ringer(given)


def test_a_call_that_nobody_waits_for_opens_nothing(call: str, temporary: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        doorbell.Ringer(call)
    assert not list(temporary.iterdir())


def test_nothing_is_left_on_the_disk_once_the_engine_has_the_call(call: str, temporary: Path) -> None:
    with doorbell.Doorbell(call):
        assert [path.stat().st_mode & 0o777 for path in temporary.iterdir()] == [0o600]
        doorbell.Ringer(call)
        assert not list(temporary.iterdir())
    with doorbell.Doorbell(uuid.uuid4().hex):
        pass
    assert not list(temporary.iterdir())
