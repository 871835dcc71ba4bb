"""How far the engines of a pod that starts are, as its `/readyz` says. Triton itself only says that they are loading."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from tritonllm.serve import load_progress

# Of `tritonllm serve`, as the pool's chart starts it.
PORT = 8003
# The answer is the newest that the pod has; one that takes longer is left out of the status.
_SECONDS = 1.0
_LONGEST_BYTES = 1 << 16


async def stages(address: str, port: int = PORT) -> Mapping[str, str]:
    """What each model that is being loaded does; empty where the pod does not answer, as before it listens.

    Args:
        address: IP of the pod.
        port: of `/readyz`.
    """
    host = f"[{address}]" if ":" in address else address
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_SECONDS)) as session,
            session.get(f"http://{host}:{port}/readyz", allow_redirects=False) as answer,
        ):
            text = (await answer.content.read(_LONGEST_BYTES)).decode(errors="replace")
    except (TimeoutError, aiohttp.ClientError, OSError):
        return {}
    return load_progress.read(text.splitlines())
