"""What can go wrong between a hub and its client: each changes an answer of `hub_server`."""

from __future__ import annotations

import threading
import time
import urllib.parse

from hub_server import Answer, Fault


def cut(after: int, reset: bool = False) -> Fault:
    """Ends the connection after so many bytes of the body, by a reset if that is asked for."""

    def apply(answer: Answer) -> None:
        answer.cut, answer.reset = after, reset

    return apply


def slow(seconds: float) -> Fault:
    """Waits before each block of 256 kB."""

    def apply(answer: Answer) -> None:
        answer.pause = lambda: time.sleep(seconds)

    return apply


def stall(until: threading.Event) -> Fault:
    """Sends headers, and no byte until something happens."""

    def apply(answer: Answer) -> None:
        answer.pause = until.wait

    return apply


def wrong_bytes(answer: Answer) -> None:
    """Changes one byte in the middle of what is sent; the length stays."""
    body = bytearray(answer.body if isinstance(answer.body, bytes) else answer.body.read_bytes())
    if len(body) > answer.start:
        body[(answer.start + len(body)) // 2] ^= 0xFF
    answer.body = bytes(body)


def wrong_length(more: int) -> Fault:
    """Sends more bytes than the file has, or fewer, and says so."""

    def apply(answer: Answer) -> None:
        body = answer.body if isinstance(answer.body, bytes) else answer.body.read_bytes()
        answer.body = body + b"?" * more if more > 0 else body[:more]
        if "Content-Range" in answer.headers:
            last = len(answer.body) - 1
            answer.headers["Content-Range"] = f"bytes {answer.start}-{last}/{last + 1}"

    return apply


def no_range(answer: Answer) -> None:
    """Sends the whole file whatever part was asked for."""
    # Only where a part was really asked for: a status that another fault made has no range to take back.
    if "Content-Range" in answer.headers:
        del answer.headers["Content-Range"]
        answer.status, answer.start = 200, 0


def other_range(answer: Answer) -> None:
    """Sends another part than the one that was asked for."""
    if answer.status == 206:
        answer.start //= 2
        total = answer.end
        answer.headers["Content-Range"] = f"bytes {answer.start}-{total - 1}/{total}"


def status(code: int, **headers: str) -> Fault:
    """Answers with a status, and headers with `_` for `-`."""

    def apply(answer: Answer) -> None:
        answer.status, answer.body, answer.start = code, b"no", 0
        answer.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    return apply


def redirect(url: str) -> Fault:
    """Sends the client to another server."""

    def apply(answer: Answer) -> None:
        answer.status, answer.body, answer.start = 302, b"", 0
        answer.headers = {"Location": f"{url}{urllib.parse.quote(answer.path, safe='/%')}"}

    return apply


def portal(answer: Answer) -> None:
    """What a hotel's network says to everything."""
    answer.status, answer.start = 200, 0
    answer.headers, answer.body = {"Content-Type": "text/html"}, b"<html>Welcome! Please log in.</html>" * 9
