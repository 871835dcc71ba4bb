"""How long texts wait so that a response carries several tokens; `outbox` itself runs inside Triton only."""

from __future__ import annotations

import sys
import types

import pytest

sys.modules.setdefault("triton_python_backend_utils", types.ModuleType("triton_python_backend_utils"))

from tritonllm.runtime import outbox  # noqa: E402


@pytest.mark.parametrize(
    ("streams", "speed", "wait"),
    [
        (1, 400, 0.0),
        (3, 3000, 0.0),
        (8, 4000, 4 * 8 / 4000),
        (32, 8000, 8 * 32 / 8000),
        (64, 64_000, 8 * 64 / 64_000),
        (64, 500, outbox.LONGEST_WAIT_SECONDS),
        (64, 0, 0.0),
    ],
)
def test_many_streams_wait_for_several_tokens_and_never_long(streams: int, speed: float, wait: float) -> None:
    assert outbox.wait_seconds(streams, speed) == pytest.approx(wait)
