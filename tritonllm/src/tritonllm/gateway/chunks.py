"""A stream of chunks, as chat and completions have it.

The JSON is put together from parts that are ready, since there are so many: chunks with deltas, then one with the finish
reason of each choice, then one with the usage if it was asked for, then `[DONE]`. The last chunk with a choice also has
`guardrails`.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Mapping

import orjson

from tritonllm import errors
from tritonllm.gateway import answers, failures, generation, sse

_END_OF_EVENT = b"}\n\n"


class ChunkStream(abc.ABC):
    """See `sse.Events`.

    Args:
        asked: the request.
        identifier: of the answer.
        kind: OpenAI's `object`.
        choices: number of choices of all prompts together.
        include_usage: whether the last chunk has the usage.
        continuous_usage: whether the others have the usage so far.
    """

    def __init__(
        self,
        asked: generation.Generation,
        identifier: str,
        kind: str,
        *,
        choices: int,
        include_usage: bool,
        continuous_usage: bool,
    ) -> None:
        self._asked = asked
        common = {"id": identifier, "object": kind, "created": int(time.time()), "model": asked.model}
        self._head = b"data: " + orjson.dumps(common)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        self._include_usage = include_usage
        self._continuous_usage = continuous_usage
        self._choices = choices
        self._open = choices
        self._begun = False
        self._held: answers.Delta | None = None

    @abc.abstractmethod
    def begin(self) -> bytes:
        """The chunks before the first delta."""

    @abc.abstractmethod
    def delta(self, delta: answers.Delta) -> bytes:
        """The chunks of a delta, without its finish reason."""

    @abc.abstractmethod
    def refusal(self) -> bytes:
        """The chunks that say that the prompt was blocked."""

    @abc.abstractmethod
    def finish(self, delta: answers.Delta) -> bytes:
        """The chunk that ends a choice."""

    async def next(self) -> tuple[bytes, bool]:
        """See `sse.Events`."""
        deltas, last = await self._asked.receive()
        found = [] if self._begun else [self.begin()]
        self._begun = True
        for delta in deltas:
            if delta.text or delta.reasoning or delta.tool_calls or delta.logprobs:
                found.append(self.delta(delta))
            if delta.finish_reason is not None:
                self._open -= 1
                if self._open:
                    found.append(self.finish(delta))
                else:
                    # What the rules found is known at the end only.
                    self._held = delta
        if last:
            found.append(self._end())
        return b"".join(found), last

    def failed(self, error: errors.RequestError) -> bytes:
        """See `sse.Events`."""
        return failures.event(error) + sse.DONE

    def headers(self) -> Mapping[str, str]:
        """See `sse.Events`."""
        return self._asked.headers()

    def close(self) -> None:
        """See `sse.Events`."""
        self._asked.close()

    def chunk(self, choice: bytes) -> bytes:
        """A chunk with one choice, as JSON."""
        if self._continuous_usage:
            return self._head + choice + self._usage()
        return self._head + choice + self._tail

    def _usage(self) -> bytes:
        return b'],"usage":' + orjson.dumps(self._asked.usage().described()) + _END_OF_EVENT

    def _end(self) -> bytes:
        found = self.refusal() if any(answer.refused for answer in self._asked.answers) else b""
        if self._held is not None:
            guardrails = orjson.dumps(answers.guardrails(self._asked.answers))
            chunk = self.finish(self._held).removesuffix(_END_OF_EVENT)
            found += chunk + b',"guardrails":' + guardrails + _END_OF_EVENT
        if self._include_usage:
            found += self._head + self._usage()
        return found + sse.DONE
