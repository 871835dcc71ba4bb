"""What is computed from an endpoint is computed once, as long as the endpoint is there. Pure."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TypeVar

from tritonllm import api

T = TypeVar("T")


def once(compute: Callable[[api.LLMEndpoint], T]) -> Callable[[api.LLMEndpoint], T]:
    """Remembers results by the endpoint's identity: it never changes, and has parts that can't be hashed.

    Args:
        compute: a pure function.
    """
    known: dict[int, tuple[weakref.ref[api.LLMEndpoint], T]] = {}

    def remembered(endpoint: api.LLMEndpoint) -> T:
        key = id(endpoint)
        if key not in known:
            known[key] = weakref.ref(endpoint, lambda _: known.pop(key)), compute(endpoint)
        return known[key][1]

    remembered.__doc__ = compute.__doc__
    return remembered
