"""The backend that sends requests to a server with OpenAI's API.

Loading it connects to nothing: an upstream that can't be reached fails requests, not pods. The API key is a file in a
directory, and read for each request, so that a new key needs no restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from tritonllm import errors, event_stream
from tritonllm.engines.openai import OpenAIArgs
from tritonllm.ipc import names
from tritonllm.runtime import backend, openai_answers, openai_failures, openai_requests, request_tasks

log = logging.getLogger(__name__)

# Shorter than the 5 s after which uvicorn, in front of most engines, closes an idle connection: a request must not be sent on
# one that is being closed.
_KEEP_ALIVE_SECONDS = 3.0
# For the end of a response after its last event, so that the connection can be used again.
_END_SECONDS = 1.0
_ERROR_BYTES = 1 << 16
_KEY = re.compile(r"[!-~]+")


class OpenAIBackend(backend.Backend):
    """See `backend.Backend`.

    Args:
        arguments: the content of `model.json`; see `OpenAIArgs`.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._args = OpenAIArgs.model_validate(arguments)
        self.max_model_len = self._args.max_model_len
        self._requests = request_tasks.RequestTasks()
        self._counts_told = True

    async def start(self) -> None:
        """Opens no connection.

        Raises:
            ValueError: there is no API key of this name, or what is there can't be one.
        """
        self._key()
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=openai_failures.CONNECT_SECONDS,
            sock_read=self._args.idle_timeout_seconds,
        )
        connector = aiohttp.TCPConnector(limit=self._args.max_num_seqs, keepalive_timeout=_KEEP_ALIVE_SECONDS)
        # With the proxy of the environment, if it has one.
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=True)

    def submit(
        self,
        generation: backend.Generation,
        on_update: Callable[[backend.Update], None],
        on_error: Callable[[errors.RequestError], None],
    ) -> None:
        """Sends a request."""
        self._requests.start(generation.id, self._run(generation), on_update, on_error)

    def abort(self, request_id: str) -> None:
        """Closes the connection of a request, which is how OpenAI's API cancels it."""
        self._requests.abort(request_id)

    async def close(self) -> None:
        """Closes all connections."""
        await self._requests.close()
        await self._session.close()

    def stats(self) -> backend.Stats:
        """The first `max_num_seqs` requests are sent, the others wait for a connection.

        The steps are the seconds of the clock: an upstream that is silent is no engine that hangs, and a new process would not
        help it.
        """
        running = min(len(self._requests), self._args.max_num_seqs)
        return backend.Stats(running, len(self._requests) - running, 0.0, int(time.monotonic()))

    async def check(self) -> None:
        """Can't die: upstreams come back."""

    async def _run(self, generation: backend.Generation) -> None:
        try:
            route, body = openai_requests.request(self._args, generation)
            await self._ask(generation, route, body)
        except errors.RequestError as error:
            self._requests.fail(generation.id, error)
        except Exception as error:
            log.exception("a request to %s failed", self._args.url)
            self._requests.fail(
                generation.id,
                errors.RequestError("internal", "", f"the engine failed: {type(error).__name__}"),
            )

    async def _ask(self, generation: backend.Generation, route: str, body: dict[str, Any]) -> None:
        begun = False
        try:
            key = self._key()
        except ValueError as error:
            log.error("%s", error)
            raise errors.RequestError(
                "unavailable",
                "",
                "the API key of the upstream can't be read; the owner of this endpoint has to correct it",
            ) from None
        try:
            # A file, because aiohttp would send long bytes in one write and warn about it.
            # Without redirects: the key is for this address. Leaving the block early closes the connection.
            async with self._session.post(
                f"{self._args.url}/{route}",
                data=io.BytesIO(json.dumps(body).encode()),
                headers=_headers(key),
                allow_redirects=False,
            ) as reply:
                begun = True
                if reply.status != 200:
                    raise await self._refusal(reply, generation, key)
                if reply.content_type != "text/event-stream":
                    raise openai_failures.not_a_stream(reply.content_type)
                await self._read(generation, reply)
        except openai_answers.UpstreamError as error:
            raise openai_failures.ended(error.error, key) from None
        except event_stream.TooLong as error:
            raise errors.RequestError("engine_failure", "", f"the upstream sent no answer: {error}") from None
        except (aiohttp.ClientError, OSError) as error:
            # Not its representation, which can have the headers of the request.
            log.warning("the connection to %s failed: %s: %s", self._args.url, type(error).__name__, error)
            raise openai_failures.broken(
                error, begun=begun, idle_seconds=self._args.idle_timeout_seconds
            ) from None

    async def _read(self, generation: backend.Generation, reply: aiohttp.ClientResponse) -> None:
        reader = openai_answers.Reader(
            generation.sampling.n or 1,
            logprobs=generation.sampling.logprobs is not None,
            reasoning=generation.chat.get("include_reasoning", True),
        )
        async for event in event_stream.events(reply.content.iter_any()):
            if event.strip() == b"[DONE]":
                break
            update = reader.update(event)
            if update is not None:
                self._requests.update(generation.id, update)
        last = reader.last()
        if reader.told_usage != self._counts_told:
            self._counts_told = reader.told_usage
            if not self._counts_told:
                log.warning(
                    "%s does not tell the tokens of prompt and answer (`usage`): limits by tokens count chunks",
                    self._args.url,
                )
        self._requests.update(generation.id, last)
        with contextlib.suppress(TimeoutError, aiohttp.ClientError):
            async with asyncio.timeout(_END_SECONDS):
                await reply.content.read()

    async def _refusal(
        self, reply: aiohttp.ClientResponse, generation: backend.Generation, key: str
    ) -> errors.RequestError:
        body = b""
        async for piece in reply.content.iter_any():
            body += piece
            if len(body) > _ERROR_BYTES:
                break
        error = openai_failures.refused(
            reply.status,
            body,
            retry_after=reply.headers.get("Retry-After", ""),
            field="messages" if generation.text is None else "text_input",
            key=key,
        )
        if error.code != "invalid_argument":
            log.warning(
                "%s refused a request for the model %s with status %d (API key: %s)",
                self._args.url,
                self._args.model,
                reply.status,
                self._args.api_key_name,
            )
        return error

    def _key(self) -> str:
        """The API key; empty if none is needed.

        Raises:
            ValueError: it can't be read; the text does not show it.
        """
        name = self._args.api_key_name
        if name is None:
            return ""
        directory = os.environ.get(names.UPSTREAM_KEYS)
        if not directory:
            raise ValueError(
                f"engine.args.api_key_name is {name}, but there are no keys of upstreams; start `tritonllm serve` with "
                f"--upstream-keys DIR, or tritonserver with {names.UPSTREAM_KEYS} (Kubernetes: "
                "`upstreams.apiKeysSecret` of the pool)"
            )
        path = Path(directory, name)
        try:
            key = path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ValueError(f"engine.args.api_key_name: {path} can't be read: {reason}") from None
        # aiohttp would show the whole header in its complaint.
        if not _KEY.fullmatch(key):
            raise ValueError(f"engine.args.api_key_name: {path} has something else than one key")
        return key


def _headers(key: str) -> dict[str, str]:
    found = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    return found | ({"Authorization": f"Bearer {key}"} if key else {})
