"""The secret by which the processes of one run know each other, so that no caller bypasses the guardrails.

`serve` generates one for each tritonserver it starts and passes it down in the environment. A process without a
token answers no one: a repository that is served by a plain tritonserver must not be unguarded by accident.
"""

from __future__ import annotations

import hmac
import os
import secrets

VARIABLE = "TRITONLLM_RUN_TOKEN"
ALLOW_DIRECT = "TRITONLLM_ALLOW_DIRECT_ENGINE"
"""Set to `1`, clients can call engines without a token, and so without guardrails."""


def current() -> str:
    """The secret of this process's run; empty if there is none."""
    return os.environ.get(VARIABLE, "")


def admits(token: object) -> bool:
    """Whether a peer with this token belongs to this run."""
    return bool(current()) and hmac.compare_digest(str(token).encode(), current().encode())


def direct_allowed() -> bool:
    """Whether clients can call the engine of this process without a token."""
    return os.environ.get(ALLOW_DIRECT) == "1"


def ensure() -> None:
    """Gives this process a token where it has none. No other process knows it, so that it only serves itself."""
    if not current():
        os.environ[VARIABLE] = secrets.token_urlsafe(32)
