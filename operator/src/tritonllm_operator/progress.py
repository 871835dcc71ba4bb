"""How far the engines of a pod that starts are, as its supervisor says. Triton itself only says that they are loading."""

from __future__ import annotations

import json
from collections.abc import Mapping

import aiohttp

# Of `tritonllm serve`, as the pool's chart starts it.
PORT = 8003
# The answer is the newest that the pod has; one that takes longer is left out of the status.
_SECONDS = 1.0
_LONGEST_BYTES = 1 << 16


async def stages(address: str, port: int = PORT) -> Mapping[str, str]:
    """What each model that is being loaded does; empty where the pod does not say, as one of an earlier version.

    Args:
        address: IP of the pod.
        port: of `/loading`.
    """
    host = f"[{address}]" if ":" in address else address
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_SECONDS)) as session,
            session.get(f"http://{host}:{port}/loading", allow_redirects=False) as answer,
        ):
            found = json.loads(await answer.content.read(_LONGEST_BYTES))
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
        return {}
    return {name: str(stage) for name, stage in found.items()} if isinstance(found, dict) else {}
