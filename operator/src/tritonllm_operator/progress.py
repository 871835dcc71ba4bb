"""What the supervisor of a pod says and its Triton can't: how far engines are, and which endpoints it could not read."""

from __future__ import annotations

import json
from collections.abc import Mapping

import aiohttp

from tritonllm import addresses

# Of `tritonllm serve`, as the pool's chart starts it.
PORT = 8003
LOADING = "loading"
"""What each model that is being loaded does."""
UNREADABLE = "unreadable"
"""Why each endpoint is left out that the pod could not read."""
# The answer is the newest that the pod has; one that takes longer is left out of the status.
_SECONDS = 1.0
_LONGEST_BYTES = 1 << 16
# Of one answer: a condition has room for 32 KiB of text.
_LONGEST_TEXT = 2000


async def said(address: str, question: str, port: int = PORT) -> Mapping[str, str]:
    """What a pod answers, by model or endpoint; empty where it does not say, as one of an earlier version.

    Args:
        address: IP of the pod.
        question: `LOADING` or `UNREADABLE`.
        port: of the supervisor.
    """
    url = f"http://{addresses.in_url(address)}:{port}/{question}"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_SECONDS)) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            found = json.loads(await answer.content.read(_LONGEST_BYTES))
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
        return {}
    given = found.items() if isinstance(found, dict) else ()
    return {name: str(text)[:_LONGEST_TEXT] for name, text in given}
