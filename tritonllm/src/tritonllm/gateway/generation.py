"""One request in progress: a call to the endpoint for each of its prompts, and what their answers have in common.

The routes of chat, completions and responses differ in what they make of the deltas, and in nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import orjson
from starlette.types import Receive

from tritonllm import errors
from tritonllm.gateway import answers, failures, records, sse, upstream


class ClientLeft(Exception):
    """The client left before its answer was complete."""


class Prompt(NamedTuple):
    """One prompt of a request.

    Attributes:
        inputs: of the pipeline.
        field: of the request that has it.
        names: the caller's fields for those of the pipeline; see `failures.translated`.
    """

    inputs: upstream.Inputs
    field: str
    names: Mapping[str, str]

    def to(self, adapter: str) -> Prompt:
        """The same for an adapter of the endpoint."""
        sampling = orjson.loads(self.inputs.get("sampling_parameters") or "{}") | {"lora_name": adapter}
        inputs = {**self.inputs, "sampling_parameters": orjson.dumps(sampling).decode()}
        return Prompt(inputs, self.field, {**self.names, "lora_name": "model"})


class Generation:
    """See above.

    Args:
        source: of the endpoints.
        record: of the request.
        model: name of the endpoint, or `endpoint:adapter`.
        prompts: what is asked; each is a request to the pipeline.
        n: number of choices for each prompt.

    Raises:
        RequestError: the endpoint does not exist, does not accept requests, or the API key is not valid for it.
    """

    def __init__(
        self,
        source: upstream.Upstream,
        record: records.Record,
        model: str,
        prompts: Sequence[Prompt],
        n: int,
    ) -> None:
        endpoint, adapter = upstream.split(model)
        known = source.endpoints().get(endpoint)
        if known is not None or not record.allows(endpoint):
            record.ask(endpoint)
        self.model = model
        self._endpoint = endpoint
        if adapter is not None:
            prompts = [prompt.to(adapter) for prompt in prompts]
        self.refusal = known.refusal if known else "Error"
        self.answers = [answers.Answer(index * n, n, self.refusal) for index in range(len(prompts))]
        self._source = source
        self._record = record
        self._prompts = prompts
        self._finish_reason = ""
        self._merged: _Merged | None = None
        self._calls: list[upstream.Call] = []
        try:
            for prompt in prompts:
                self._calls.append(source.submit(endpoint, prompt.inputs))
        except errors.RequestError as error:
            self.close()
            raise failures.translated(error, prompts[len(self._calls)].names) from None
        if len(self._calls) > 1:
            self._merged = _Merged(self._calls)

    async def receive(self) -> tuple[list[answers.Delta], bool]:
        """Waits for what is new of any choice; also says whether the request has ended.

        Raises:
            RequestError: it has failed; the field is named as in the caller's request.
        """
        index = 0
        try:
            if self._merged is not None:
                (index, responses), last = await self._merged.receive()
                if isinstance(responses, errors.RequestError):
                    raise responses
            else:
                responses, last = await self._calls[0].receive()
            take = self.answers[index].take
            if len(responses) == 1:
                found = take(responses[0])
            else:
                found = [delta for outputs in responses for delta in take(outputs)]
        except errors.RequestError as error:
            prompt = self._prompts[index]
            if isinstance(error, failures.Blocked) and not error.field:
                raise failures.Blocked(prompt.field, error.guardrail) from None
            raise failures.translated(error, prompt.names) from None
        if found and (reason := found[-1].finish_reason) is not None:
            self._finish_reason = reason
        return found, last

    async def collect(self, receive: Receive) -> list[answers.Delta]:
        """Waits for the whole answer.

        Args:
            receive: ASGI's; tells when the client leaves.

        Raises:
            RequestError: as `receive`.
            ClientLeft: the request was aborted.
        """
        found: list[answers.Delta] = []
        departure = sse.Departure(receive, self.close)
        try:
            async with departure:
                last = False
                while not last:
                    deltas, last = await self.receive()
                    found += deltas
                return found
        finally:
            self.close()
        raise ClientLeft

    def headers(self) -> dict[str, str]:
        """Headers of a response that say what the endpoint is at the moment."""
        known = self._source.endpoints().get(self._endpoint)
        return {"X-Guardrail-Policy": known.policy} if known else {}

    def usage(self) -> answers.Usage:
        """Tokens of the request."""
        return answers.usage(self.answers)

    def close(self) -> None:
        """Aborts what has not ended, and notes what was used until now."""
        used = self.usage()
        self._record.finish(
            input_tokens=used.prompt, output_tokens=used.completion, finish_reason=self._finish_reason
        )
        if self._merged is not None:
            self._merged.close()
        for call in self._calls:
            call.close()


class _Merged:
    """Several calls, received as one."""

    def __init__(self, calls: Iterable[upstream.Call]) -> None:
        self._arrived: asyncio.Queue[tuple[int, list[upstream.Outputs] | errors.RequestError, bool]] = (
            asyncio.Queue()
        )
        self._tasks = [
            asyncio.get_running_loop().create_task(self._follow(index, call))
            for index, call in enumerate(calls)
        ]
        self._open = len(self._tasks)

    async def receive(self) -> tuple[tuple[int, list[upstream.Outputs] | errors.RequestError], bool]:
        index, responses, last = await self._arrived.get()
        self._open -= last
        return (index, responses), self._open == 0

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _follow(self, index: int, call: upstream.Call) -> None:
        last = False
        try:
            while not last:
                responses, last = await call.receive()
                await self._arrived.put((index, responses, last))
        except errors.RequestError as error:
            await self._arrived.put((index, error, True))
