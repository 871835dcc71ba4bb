"""What the operator is told by its environment."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass


class Mistake(ValueError):
    """A setting that can't be used; the text says which and what to do."""


@dataclass(frozen=True)
class Settings:
    """All there is to set.

    Attributes:
        namespaces: that are watched; empty for all.
        resync_seconds: between two looks at a pool of which nothing is heard.
        health_port: of `/healthz`.
        metrics_port: of `/metrics`.
        lease: namespace and name of the Lease by which one of several operators leads; None for no election.
        identity: of this operator, in the Lease.
    """

    namespaces: tuple[str, ...] = ()
    resync_seconds: float = 60.0
    health_port: int = 8080
    metrics_port: int = 8081
    lease: tuple[str, str] | None = None
    identity: str = ""


def read(environment: Mapping[str, str] = os.environ) -> Settings:
    """Reads the environment.

    Raises:
        Mistake: a value is not a number, or the Lease is not named by its namespace and name.
    """
    default = Settings()
    names = environment.get("TRITONLLM_WATCH_NAMESPACES", "")
    return Settings(
        namespaces=tuple(sorted({name.strip() for name in names.split(",") if name.strip()})),
        resync_seconds=_number(environment, "TRITONLLM_RESYNC_SECONDS", default.resync_seconds),
        health_port=int(_number(environment, "TRITONLLM_HEALTH_PORT", default.health_port)),
        metrics_port=int(_number(environment, "TRITONLLM_METRICS_PORT", default.metrics_port)),
        lease=_lease(environment.get("TRITONLLM_LEASE", "")),
        identity=environment.get("TRITONLLM_IDENTITY", "") or socket.gethostname(),
    )


def _lease(text: str) -> tuple[str, str] | None:
    if not text:
        return None
    namespace, _, name = text.partition("/")
    if not namespace or not name:
        raise Mistake(f"TRITONLLM_LEASE is {text!r} and must be NAMESPACE/NAME")
    return namespace, name


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < 1e6:
        raise Mistake(f"{name} is {text!r} and must be a number above 0")
    return value
