"""OpenAI's API, as the gateway serves it: what a request to an endpoint is there, and what its chunks say.

The tokens of several choices are known together only; they count for the first one.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp

from tritonllm import errors as request_errors
from tritonllm import event_stream
from tritonllm.client import answers, ask, errors

_GUARDRAIL = "-guardrail"


class Transport:
    """A pool of connections, one for each open request.

    Args:
        url: base URL, such as `http://localhost:8080/v1`.
        api_key: sent if it is not empty.
    """

    def __init__(self, url: str, api_key: str) -> None:
        self._url = url
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )

    async def responses(self, model: str, inputs: ask.Inputs) -> AsyncGenerator[answers.Outputs, None]:
        """Sends a request to an endpoint; closing the generator cancels it on the server."""
        route, body = request(model, inputs)
        reader = Reader(body.get("n") or 1)
        try:
            async with contextlib.aclosing(self._post(route, body)) as events:
                async for event in events:
                    yield reader.outputs(event)
        except Blocked as blocked:
            yield reader.outputs({"guardrails": blocked.guardrails}, ended="content_filter")
        if reader.complete:
            yield reader.last()

    async def infer(self, model: str, inputs: ask.Inputs) -> AsyncGenerator[answers.Outputs, None]:
        """Asks an endpoint's rules about a text."""
        body = {
            "model": model.removesuffix(_GUARDRAIL),
            "input": inputs["text_input"],
            "direction": inputs["direction"],
        }
        async with contextlib.aclosing(self._post("moderations", body)) as found:
            async for answer in found:
                [result] = answer["results"]
                yield {
                    "text_output": [result["text"]],
                    "blocked": [result["blocked"]],
                    "guardrail": [json.dumps(result["guardrails"])],
                }

    async def close(self) -> None:
        """Closes the connections and cancels all requests on them."""
        await self._session.close()

    async def _post(self, route: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        # A file, because aiohttp would send long bytes in one write and warn about it.
        content = io.BytesIO(json.dumps(body).encode())
        try:
            # Leaving this block before the whole body was read closes the connection, which cancels the request.
            async with self._session.post(
                f"{self._url}/{route}", data=content, headers=self._headers
            ) as reply:
                if reply.content_type == "text/event-stream":
                    async for event in event_stream.events(reply.content.iter_any()):
                        if event.strip() != b"[DONE]":
                            yield _object(event, reply)
                else:
                    yield _object(await reply.read(), reply)
        except (aiohttp.ClientError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise errors.ServerUnreachable(f"cannot reach OpenAI's API at {self._url} ({reason})") from None


class Blocked(Exception):
    """A rule has blocked the prompt, which is an answer for callers of the client."""

    def __init__(self, guardrails: list[dict[str, Any]]) -> None:
        super().__init__()
        self.guardrails = guardrails


def request(model: str, inputs: ask.Inputs) -> tuple[str, dict[str, Any]]:
    """The route and the body for the inputs of an endpoint.

    Raises:
        InvalidRequest: log probabilities are asked for, which have another form there.
    """
    body: dict[str, Any] = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    body |= json.loads(str(inputs.get("sampling_parameters", "{}")))
    if "logprobs" in body:
        raise errors.InvalidRequest(
            "is not supported with OpenAI's API; use an OpenAI client, or Triton's address", field="logprobs"
        )
    if "messages" in inputs:
        return "chat/completions", body | {"messages": json.loads(str(inputs["messages"]))}
    return "completions", body | {"prompt": inputs["text_input"]}


class Reader:
    """Reads the chunks of a stream as responses of an endpoint. Pure.

    Args:
        n: number of choices.
    """

    def __init__(self, n: int) -> None:
        self._reasons = [""] * n
        self._usage = {"prompt_tokens": 0, "completion_tokens": 0}
        self._guardrails: list[dict[str, Any]] = []

    @property
    def complete(self) -> bool:
        """Whether all choices have ended."""
        return all(self._reasons)

    def outputs(self, chunk: dict[str, Any], ended: str = "") -> answers.Outputs:
        """The texts of a chunk, for each choice.

        Args:
            chunk: OpenAI's `chat.completion.chunk` or `text_completion`.
            ended: the finish reason of all choices, if there are none in it.
        """
        texts = [""] * len(self._reasons)
        if ended:
            self._reasons = [ended] * len(self._reasons)
        for choice in chunk.get("choices", ()):
            texts[choice["index"]] += choice.get("text") or choice.get("delta", {}).get("content") or ""
            self._reasons[choice["index"]] = choice["finish_reason"] or self._reasons[choice["index"]]
        self._usage = chunk.get("usage") or self._usage
        self._guardrails = chunk.get("guardrails") or self._guardrails
        return {"text_output": texts}

    def last(self) -> answers.Outputs:
        """The last response."""
        others = len(self._reasons) - 1
        return {
            "text_output": [""] * len(self._reasons),
            "finish_reason": self._reasons,
            "num_input_tokens": [self._usage["prompt_tokens"]],
            "num_output_tokens": [self._usage["completion_tokens"], *[0] * others],
            "guardrail": [json.dumps(self._guardrails)],
        }


_BY_STATUS: dict[int, type[errors.TritonLLMError]] = {
    401: errors.PermissionDenied,
    403: errors.PermissionDenied,
    404: errors.ModelNotFound,
    429: errors.QueueFull,
    503: errors.Unavailable,
    504: errors.Timeout,
}


def classify(body: dict[str, Any], status: int) -> errors.TritonLLMError:
    """The exception for an error in OpenAI's form.

    Args:
        body: with `error`.
        status: of the response; 200 for an event of a stream.
    """
    error = body["error"] if isinstance(body["error"], dict) else {"message": str(body["error"])}
    field = str(error.get("param") or "")
    message = str(error.get("message", "")).removeprefix(f"{field}: ")
    code: Any = error.get("code")
    if code in request_errors.TABLE:
        status = request_errors.TABLE[code].status
    kind = errors.CLASSES.get(code) or _BY_STATUS.get(status)
    if kind is None:
        kind = errors.InvalidRequest if 400 <= status < 500 else errors.ServerFailed
    return kind(message, field=field)


def _object(text: bytes, reply: aiohttp.ClientResponse) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict) and "error" in found:
        if isinstance(found["error"], dict) and found["error"].get("code") == "content_filter":
            raise Blocked(found.get("guardrails", []))
        raise classify(found, reply.status)
    if not isinstance(found, dict) or reply.status != 200:
        start = text[:200].decode(errors="replace").strip()
        raise errors.ServerFailed(
            f"{reply.url} returned HTTP {reply.status} {start!r}; is this the base URL of an OpenAI API?"
        )
    return found
