"""The errors that a caller of a model gets, as text that both people and clients can read."""

from __future__ import annotations

import re
from typing import Literal, get_args

Code = Literal[
    "invalid_argument",
    "permission_denied",
    "queue_full",
    "unavailable",
    "guardrail_failure",
    "engine_failure",
    "cancelled",
    "internal",
]

CODES: tuple[Code, ...] = get_args(Code)

# Enough for any reason; what quotes the caller's own input may be as long as that.
_LONGEST = 2000

_TEXT = re.compile(rf"\[({'|'.join(CODES)})\] (?:([\w.\[\]]+): )?(.*)", re.DOTALL)


class RequestError(Exception):
    """One request can't be served.

    Its text is `[code] field: message`, or `[code] message` where no field is to blame. The code comes in
    the text because Triton's HTTP front end answers every error of a decoupled model with status 400.

    Args:
        code: what kind of error it is.
        field: the input to blame, such as `sampling_parameters.max_tokens`; empty for none.
        message: what is wrong and what to do.
    """

    def __init__(self, code: Code, field: str, message: str) -> None:
        super().__init__(_sendable(f"[{code}] {field}: {message}" if field else f"[{code}] {message}"))
        self.code: Code = code
        self.field = field
        self.message = message


def _sendable(text: str) -> str:
    """The text without what can't be sent: half a surrogate pair has no UTF-8."""
    shown = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    return shown.encode(errors="backslashreplace").decode()


def parse(text: str) -> RequestError:
    """The error that a text stands for; a text of another form is the failure of an engine."""
    match = _TEXT.search(text)
    if match is None:
        return RequestError("engine_failure", "", text)
    code, field, message = match.groups()
    return RequestError(code, field or "", message)  # pyright: ignore[reportArgumentType]
