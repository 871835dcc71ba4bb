"""Engine type `transformers`: any causal model by Hugging Face's transformers, on a CPU or one GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pydantic
from pydantic_core import PydanticCustomError

from tritonllm.engines.base import Args, Arguments, EngineType, Package

_DEFAULT_MAX_NUM_SEQS = 16


class TransformersArgs(Arguments):
    """`spec.engine.args` of engine type `transformers`."""

    device: Literal["auto", "cpu", "cuda"] = pydantic.Field(
        default="auto", description="Where the model runs. auto: on a GPU if there is one."
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = pydantic.Field(
        default="auto",
        description="Data type of the model. auto: as in vLLM that of its `config.json`, and bfloat16 in place of float32.",
    )
    max_num_seqs: int = pydantic.Field(
        default=_DEFAULT_MAX_NUM_SEQS, ge=1, description="Maximum number of answers generated at once."
    )
    max_model_len: int | None = pydantic.Field(
        default=None,
        ge=1,
        description="Maximum number of tokens of prompt and answer together; the default is that of the model.",
    )
    gpu_memory_utilization: float = pydantic.Field(
        default=0.9, gt=0, le=1, description="Share of the GPU's memory that weights and KV cache can take."
    )
    chat_template: str | None = pydantic.Field(
        default=None, description="Text of a chat template in Jinja, used in place of the model's own."
    )

    @pydantic.field_validator("chat_template")
    @classmethod
    def _is_a_text(cls, value: str | None) -> str | None:
        if value is not None and "{" not in value:
            raise PydanticCustomError("template", "must be the text of a template, not the name of a file")
        return value


class Transformers(EngineType):
    """See the module."""

    name = "transformers"
    description = (
        "`transformers` generates text with Hugging Face's transformers, on a CPU or one GPU: any causal model, slower than"
        " with vLLM."
    )
    label = "engine type transformers"
    backend = "tritonllm.runtime.transformers_engine:TransformersBackend"
    package = Package("transformers", "transformers is not installed; `pip install transformers torch`")
    arguments = TransformersArgs
    window_cache = False

    def max_num_seqs(self, args: Args) -> int:
        """See `EngineType.max_num_seqs`; fewer than vLLM's, as the KV cache is padded to the longest sequence."""
        return args.get("max_num_seqs", _DEFAULT_MAX_NUM_SEQS)

    def gpus(self, args: Args) -> int:
        """See `EngineType.gpus`."""
        return 0 if args.get("device") == "cpu" else 1

    def memory_share(self, args: Args, vllm_version: str | None) -> float | None:
        """See `EngineType.memory_share`: `gpu_memory_utilization`, which it takes as requests need it."""
        return args.get("gpu_memory_utilization", self.default("gpu_memory_utilization", vllm_version))

    def search_space(self, gpus: int) -> Mapping[str, tuple[Any, ...]]:
        """See `EngineType.search_space`."""
        return {"max_num_seqs": (4, 8, 16, 32, 64)}

    def model_json(self, args: Args, prompt: Mapping[str, Any]) -> dict[str, Any]:
        """See `EngineType.model_json`: with the prompt format, for the engine to try the chat template when it loads."""
        made = super().model_json(args, prompt)
        return made | {"prompt": dict(prompt)} if prompt.get("format") == "Chat" else made


TRANSFORMERS = Transformers()
