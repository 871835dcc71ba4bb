"""The only module that talks to Triton: what a pod holds, and loads and unloads of its models.

All over gRPC. Over HTTP, Triton works on a load in a thread that streams of clients share.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any

import grpc
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from tritonllm import addresses
from tritonllm.serve import api_lock, loader
from tritonllm_operator import facts
from tritonllm_operator.facts import ModelState, Trouble

LOG = logging.getLogger(__name__)

PORT = 8001
# See `tritonllm.runtime.pipeline.DESCRIBE`, which can only be imported inside of Triton.
_ADAPTERS = "tritonllm_adapters"
# An answer of the API itself comes in milliseconds; a busy machine gets this long.
_QUICK = 5.0
# Questions to a pod at the same time: with all at once, the last ones would wait for longer than that.
_AT_ONCE = 16
# A guardrail and a pipeline start a Python process each; a pod whose cores are all busy takes its time.
_LOAD = 120.0
# A pod's address is asked directly, whatever proxy the environment has.
_CHANNEL = [("grpc.enable_http_proxy", 0)]


class Refused(Exception):
    """Triton, or the network before it, says no.

    Attributes:
        trouble: why, for a condition.
    """

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.trouble = trouble


class Triton:
    """The Triton of one pod. Use it as an asynchronous context."""

    def __init__(self, pod: str, address: str, secret: str, port: int = PORT) -> None:
        self._pod = pod
        self._headers = api_lock.Lock(secret).grpc_headers()
        self._client = triton.InferenceServerClient(
            f"{addresses.in_url(address)}:{port}", channel_args=_CHANNEL
        )

    async def __aenter__(self) -> Triton:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._client.close()

    async def models(self, seconds: float = _QUICK) -> dict[str, ModelState]:
        """What the pod holds: every model that was ever loaded.

        Args:
            seconds: timeout of the first answer. gRPC counts them, so it is the pod's time alone, however busy this
                process is.

        Raises:
            Refused: it does not say.
        """
        index = await self._ask(
            self._client.get_model_repository_index(self._headers, client_timeout=seconds)
        )
        rows = {row.name: row for row in index.models if row.state}
        left = iter(rows.values())
        found: dict[str, ModelState] = {}

        async def ask_in_turn() -> None:
            for row in left:
                found[row.name] = await self._state(row.name, row.state, row.reason)

        await asyncio.gather(*(ask_in_turn() for _ in range(_AT_ONCE)))
        return found

    async def _state(self, model: str, state: str, reason: str) -> ModelState:
        if state != facts.READY:
            return ModelState(state, reason=loader.useful(reason) if reason and reason != "unloaded" else "")
        try:
            answer: Any = await self._client.get_model_config(
                model, headers=self._headers, client_timeout=_QUICK
            )
        except InferenceServerException as error:
            if "unknown model" not in (error.message() or ""):
                raise Refused(self._trouble(error)) from None
            # It went between the two questions.
            return ModelState("UNAVAILABLE")
        parameters: Mapping[str, object] = answer.config.parameters
        adapters = await self._adapters(model) if "adapters" in parameters else ()
        return ModelState(state, _text(parameters, "spec_hash"), _text(parameters, "kind"), adapters=adapters)

    async def _adapters(self, pipeline: str) -> Sequence[Mapping[str, str]]:
        """How the adapters of an endpoint are; nothing where it does not say, which its status shows."""

        async def question() -> AsyncIterator[dict[str, Any]]:
            yield {"model_name": pipeline, "inputs": [], "parameters": {_ADAPTERS: True}}

        try:
            answers: Any = self._client.stream_infer(question(), stream_timeout=_QUICK, headers=self._headers)
            async for answer, _ in answers:
                if answer is not None:
                    return json.loads(answer.as_numpy("text_output")[0])
        except (InferenceServerException, grpc.RpcError):
            LOG.warning("pod %s does not say how the adapters of %s are", self._pod, pipeline)
        return ()

    async def load(self, model: str, config: str) -> None:
        """Loads a model with its complete configuration; the old one serves until the new one is ready.

        Raises:
            Refused: it can't be loaded.
        """
        await self._ask(self._client.load_model(model, self._headers, config=config, client_timeout=_LOAD))

    async def unload(self, model: str) -> None:
        """Begins to unload a model: it ends when its requests have.

        Raises:
            Refused: Triton does not.
        """
        await self._ask(self._client.unload_model(model, self._headers, client_timeout=_QUICK))

    async def _ask(self, call: Awaitable[Any]) -> Any:
        try:
            return await call
        except InferenceServerException as error:
            raise Refused(self._trouble(error)) from None

    def _trouble(self, error: InferenceServerException) -> Trouble:
        if _denied(error):
            return Trouble(
                "ModelControlDenied",
                f"pod {self._pod} refuses the secret of its pool, so it started with another one; restart the pods"
                " with `kubectl rollout restart`, or restore the Secret",
            )
        if error.status() in ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED"):
            return Trouble("Unreachable", f"Triton of pod {self._pod} does not answer: {error.message()}")
        return Trouble("LoadFailed", loader.useful(error.message() or ""))


def _denied(error: InferenceServerException) -> bool:
    # https://github.com/triton-inference-server/server/blob/main/docs/customization_guide/inference_protocols.md
    return "restricted" in (error.message() or "").lower() or error.status() == str(
        grpc.StatusCode.PERMISSION_DENIED
    )


def _text(parameters: Mapping[str, object], name: str) -> str:
    value = parameters.get(name)
    return getattr(value, "string_value", "")
