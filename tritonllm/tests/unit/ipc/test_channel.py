"""Frames survive any cutting, and a slow reader gets fewer, longer updates instead of a growing queue."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonllm.ipc import channel
from tritonllm.runtime import backend

MESSAGES = st.lists(
    st.lists(st.one_of(st.text(), st.integers(-(2**53), 2**53), st.none(), st.lists(st.text())), min_size=1)
)


@given(frames=st.lists(MESSAGES, max_size=5), cuts=st.lists(st.integers(1, 50)))
def test_frames_come_out_as_they_went_in_however_the_bytes_are_cut(
    frames: list[list[channel.Message]], cuts: list[int]
) -> None:
    data = b"".join(channel.encode(frame) for frame in frames)
    decoder = channel.Decoder()
    received: list[list[channel.Message]] = []
    for cut in [*cuts, len(data)]:
        piece, data = data[:cut], data[cut:]
        received += decoder.feed(piece)
    received += decoder.feed(data)
    assert received == frames


def test_what_is_no_json_is_an_error() -> None:
    with pytest.raises(ValueError, match=r".+"):
        list(channel.Decoder().feed(struct.pack("!I", 3) + b"[[x"))


class End(channel.Channel):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.frames: list[list[Any]] = []
        self.ended = 0

    def received(self, messages: list[channel.Message]) -> None:
        self.frames.append(messages)

    def closed(self) -> None:
        self.ended += 1


async def pair() -> tuple[End, End, asyncio.Transport]:
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    near, far = End(loop), End(loop)
    await loop.create_connection(lambda: near, sock=left)
    transport, _ = await loop.create_connection(lambda: far, sock=right)
    return near, far, transport


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


def update(text: str, reason: str | None = None) -> backend.Update:
    return backend.Update([text], [reason], 3, [1])


def test_what_is_new_within_one_turn_of_the_loop_travels_in_one_frame() -> None:
    async def scenario() -> list[list[Any]]:
        near, far, _ = await pair()
        for number in range(64):
            near.post_update(number, update("a"))
            near.post_update(number, update("b"))
        near.post(channel.ERROR, 64, "[internal] x")
        await until(lambda: far.frames)
        near.close()
        await until(lambda: far.ended)
        return far.frames

    [frame] = asyncio.run(scenario())
    assert [message[:3] for message in frame[:-1]] == [[channel.UPDATE, n, ["ab"]] for n in range(64)]
    assert frame[-1] == [channel.ERROR, 64, "[internal] x"]


def test_while_the_reader_is_slow_updates_are_merged_and_nothing_is_lost() -> None:
    async def scenario() -> tuple[str, int, int]:
        near, far, transport = await pair()
        transport.pause_reading()
        for step in range(20_000):
            near.post_update(step % 4, update(f"{step},", "stop" if step >= 19_996 else None))
            await asyncio.sleep(0)
        waiting = len(near._updates)
        transport.resume_reading()
        await until(
            lambda: sum(len(frame) for frame in far.frames if frame) and far.frames[-1][-1][3] == ["stop"]
        )
        await asyncio.sleep(0)
        text = "".join(m[2][0] for frame in far.frames for m in frame if m[1] == 0)
        near.close()
        await until(lambda: far.ended)
        return text, len(far.frames), waiting

    text, frames, waiting = asyncio.run(scenario())
    assert text == "".join(f"{step}," for step in range(0, 20_000, 4))
    assert waiting == 4
    assert frames < 10_000


def test_a_peer_that_sends_something_else_is_disconnected() -> None:
    async def scenario() -> tuple[int, int]:
        near, far, transport = await pair()
        transport.write(struct.pack("!I", 4) + b"GET ")
        await until(lambda: near.ended and far.ended)
        return near.ended, far.ended

    assert asyncio.run(scenario()) == (1, 1)


def test_merging_keeps_texts_counts_and_log_probabilities_in_order() -> None:
    first = backend.Update(["a", ""], [None, None], 3, [1, 0], [[{1: {}}], []], [-1.0, 0.0])
    first.merge(backend.Update(["b", "c"], ["stop", None], 3, [1, 1], [[{2: {}}], [{3: {}}]], [-2.0, -3.0]))
    assert first == backend.Update(
        ["ab", "c"], ["stop", None], 3, [2, 1], [[{1: {}}, {2: {}}], [{3: {}}]], [-2.0, -3.0]
    )
