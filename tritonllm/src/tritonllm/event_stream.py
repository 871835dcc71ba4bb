"""Server-sent events, read: the data of each event of a response. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterator

LONGEST = 16 << 20
"""Maximum number of bytes of a line. A chunk of an answer has some hundred, an answer that is not streamed at most this."""


class TooLong(ValueError):
    """A line is longer than `LONGEST`."""


async def events(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of server-sent events, from pieces that can end anywhere.

    Raises:
        TooLong: of a server that sends something else.
    """
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > LONGEST:
            raise TooLong(f"a line has more than {LONGEST >> 20} MiB")
        for line in lines:
            if line.startswith(b"data:"):
                yield line.removeprefix(b"data:")
