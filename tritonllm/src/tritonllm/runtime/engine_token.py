"""The secret by which an engine knows its pipeline, so that nobody walks around the guardrails.

`serve` makes one for each tritonserver it starts and hands it down in the environment; without one, as when
the engine is opened on purpose, every caller is let in.
"""

from __future__ import annotations

import hmac
import os

VARIABLE = "TRITONLLM_ENGINE_TOKEN"


def current() -> str:
    """The secret of this process's tritonserver; empty for none."""
    return os.environ.get(VARIABLE, "")


def admits(token: object) -> bool:
    """Whether a caller with this token may ask the engine."""
    return hmac.compare_digest(str(token).encode(), current().encode())
