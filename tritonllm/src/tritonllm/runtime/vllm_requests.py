"""The one place that knows how vLLM hands out the outputs of a request.

vLLM's `AsyncLLM.add_request` returns a collector into which vLLM's own output loop puts each output. Replacing the
collector's `put` by a callback saves a task and two switches of the event loop for each step of each request; with
hundreds of streams they are a large part of the engine's Python time. A version without these names is served by
`AsyncLLM.generate`, which every version has.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

_tasks: set[asyncio.Task[None]] = set()


async def add(
    engine: Any, request_id: str, prompt: Any, params: Any, receive: Callable[[Any], None], **options: Any
) -> None:
    """Submits a request to vLLM.

    Args:
        engine: the `AsyncLLM`.
        request_id: names it to `AsyncLLM.abort`.
        prompt: an engine input of token ids.
        params: `SamplingParams` with output kind DELTA.
        receive: called in the event loop with each `RequestOutput`, or with the exception that ended the request.
        options: further arguments of `AsyncLLM.add_request`, which `AsyncLLM.generate` takes, too.

    Raises:
        Exception: what vLLM raises if it refuses the request.
    """
    if not by_callback(engine):
        task = asyncio.get_running_loop().create_task(
            _generate(engine, request_id, prompt, params, receive, options)
        )
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
        return
    collector = await engine.add_request(request_id, prompt, params, **options)
    collector.put = receive
    try:
        # An output that came before the callback was there.
        early = collector.get_nowait()
    except Exception as error:
        early = error
    if early is not None:
        receive(early)


def by_callback(engine: Any) -> bool:
    """Whether this version has what the callback needs; `test_vllm_requests` checks the supported ones."""
    from vllm.v1.engine import output_processor

    collector = getattr(output_processor, "RequestOutputCollector", None)
    return hasattr(engine, "add_request") and hasattr(collector, "put") and hasattr(collector, "get_nowait")


async def _generate(
    engine: Any,
    request_id: str,
    prompt: Any,
    params: Any,
    receive: Callable[[Any], None],
    options: dict[str, Any],
) -> None:
    try:
        outputs = engine.generate(prompt, params, request_id, **options)
        async with contextlib.aclosing(outputs):
            async for output in outputs:
                receive(output)
    except Exception as error:
        receive(error)
