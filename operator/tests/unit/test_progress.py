"""What an operator learns from the `/readyz` of a pod that starts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from tritonllm.serve import health_port
from tritonllm_operator import progress


def asked(port: int) -> Mapping[str, str]:
    return asyncio.run(progress.stages("127.0.0.1", port))


def test_the_stages_are_those_that_the_pod_answers() -> None:
    said = ["chat-engine is being loaded (for 12 s); compiling the model", "chat waits (for 12 s)"]
    questions = {"/readyz": lambda: (False, said)}
    port = health_port.Port("127.0.0.1", 0, questions, lambda error: pytest.fail(repr(error)))
    try:
        assert asked(port.number) == {"chat-engine": "compiling the model"}
    finally:
        port.close()
    assert asked(port.number) == {}
