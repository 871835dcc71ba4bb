"""What the gateway asks: the endpoints of one pod, whichever way their pipelines are reached.

A request is a set of the pipeline's input tensors and its answer a series of output tensors, by name (`tensors`). The
gateway only translates between these and OpenAI's API; rules are applied by the pipeline.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

Inputs = Mapping[str, str | bool]
"""Input tensors of the pipeline: `text_input` or `messages`, `sampling_parameters`, `stream`, `return_…` flags."""

Outputs = dict[str, list[Any]]
"""Output tensors of one response, such as `{"text_output": [" Paris"]}`: one item per choice."""


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as its pipeline describes it.

    Attributes:
        name: of the endpoint; OpenAI's `model`.
        created: Unix time in seconds at which its pipeline was loaded.
        policy: hash of its guardrail policy.
        refusal: how a prompt that a rule blocks is answered; see `api.Guardrails`.
        context: maximum number of tokens of prompt and answer together, if known.
        adapters: names of its LoRA adapters that can be asked.
    """

    name: str
    created: float
    policy: str
    refusal: Literal["Error", "Message"] = "Error"
    context: int | None = None
    adapters: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules of one direction say of a text; `guardrail` as in the pipeline's output."""

    text: str
    blocked: bool
    guardrail: list[dict[str, Any]]


def split(model: str) -> tuple[str, str | None]:
    """Endpoint and adapter of a model's name, such as `chat` or `chat:sql`."""
    endpoint, colon, adapter = model.partition(":")
    return endpoint, adapter if colon else None


def verdict(outputs: Outputs) -> Verdict:
    """The verdict in the outputs of a check."""
    return Verdict(outputs["text_output"][0], outputs["blocked"][0], json.loads(outputs["guardrail"][0]))


class Call(Protocol):
    """A request in progress."""

    async def receive(self) -> tuple[list[Outputs], bool]:
        """Waits until there is something new.

        Returns:
            The responses since the last call, and whether they include the last one.

        Raises:
            RequestError: the request has failed; there is nothing more to receive.
        """
        ...

    def close(self) -> None:
        """Aborts the request if it has not ended. Safe to call at any time, several times."""
        ...


class Upstream(Protocol):
    """The endpoints that can be asked. All of it is called from one event loop."""

    async def start(self) -> None:
        """Begins to follow the endpoints."""
        ...

    async def close(self) -> None:
        """Aborts what is in progress."""
        ...

    def endpoints(self) -> dict[str, Endpoint]:
        """The endpoints that accept requests now, by name."""
        ...

    def submit(self, endpoint: str, inputs: Inputs) -> Call:
        """Sends a request.

        Raises:
            RequestError: `model_not_found` or `unavailable`.
        """
        ...

    async def check(self, endpoint: str, text: str, direction: Literal["input", "output"]) -> Verdict:
        """Applies the endpoint's rules to a text.

        Raises:
            RequestError: as in `submit`, or of the rules themselves.
        """
        ...
