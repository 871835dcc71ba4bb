"""What an operator learns from the supervisor of a pod."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from tritonllm.serve import health_port
from tritonllm_operator import progress


def asked(port: int) -> Mapping[str, str]:
    return asyncio.run(progress.said("127.0.0.1", progress.LOADING, port))


def test_what_a_pod_answers_is_known() -> None:
    questions = {"/loading": lambda: (True, ['{"chat-engine": "compiling the model"}'])}
    port = health_port.Port("127.0.0.1", 0, questions, lambda error: pytest.fail(repr(error)))
    try:
        assert asked(port.number) == {"chat-engine": "compiling the model"}
    finally:
        port.close()
    assert asked(port.number) == {}


@pytest.mark.parametrize("said", ["chat-engine is being loaded (for 12 s)", "[]", "1", ""])
def test_a_pod_that_says_something_else_says_nothing(said: str) -> None:
    port = health_port.Port(
        "127.0.0.1", 0, {"/loading": lambda: (True, [said])}, lambda error: pytest.fail(repr(error))
    )
    try:
        assert asked(port.number) == {}
    finally:
        port.close()
