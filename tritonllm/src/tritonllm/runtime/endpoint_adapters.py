"""The adapters of an endpoint as its pipeline knows them: which it wants, and how the engine says that they are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from tritonllm import errors

Description = dict[str, Any]
"""An adapter: `name`, `state` (see `adapters.State`), `message` and `commit`."""


class EndpointAdapters:
    """See above.

    Attributes:
        wanted: the adapters as in the pipeline's configuration; see `adapter_files.Adapter`.
        states: the latest description of each, in the same order.

    Args:
        endpoint: its name.
        text: the configuration's parameter `adapters`; empty without any.
        changed: called when the engine has said something new.
    """

    def __init__(self, endpoint: str, text: str, changed: Callable[[], None]) -> None:
        self.wanted: list[dict[str, Any]] = json.loads(text) if text else []
        self.states: list[Description] = [
            {"name": each["name"], "state": "Loading", "message": "", "commit": each.get("commit")}
            for each in self.wanted
        ]
        self._endpoint = endpoint
        self._changed = changed
        self._settled = asyncio.Event()

    @property
    def ready(self) -> list[str]:
        """Names of those that can be asked."""
        return [each["name"] for each in self.states if each["state"] in ("Ready", "Updating")]

    def update(self, states: list[Description]) -> None:
        """Takes what the engine says."""
        self.states = states
        if all(each["state"] != "Loading" for each in states):
            self._settled.set()
        self._changed()

    async def wait(self, seconds: float) -> None:
        """Waits until the engine has loaded them, or said why it does not.

        Args:
            seconds: maximum time to wait.
        """
        if self.wanted:
            try:
                await asyncio.wait_for(self._settled.wait(), seconds)
            except TimeoutError:
                return

    def check(self, name: str) -> None:
        """Checks that an adapter can be asked; one that is being loaded can, and its requests wait.

        Raises:
            RequestError: `model_not_found`, with the names of those that can be.
        """
        state = next((each["state"] for each in self.states if each["name"] == name), None)
        if state in ("Ready", "Updating", "Loading"):
            return
        what = f"the adapter `{name}` of the endpoint {self._endpoint} "
        what += (
            "does not exist"
            if state is None
            else "is not loaded; the log of the pod and the endpoint's status say why"
        )
        known = ", ".join(f"`{each}`" for each in self.ready)
        raise errors.RequestError(
            "model_not_found",
            "lora_name",
            f"{what}; loaded are: {known}" if known else f"{what}; none is loaded",
        )
