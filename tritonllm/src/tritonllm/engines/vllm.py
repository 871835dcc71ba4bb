"""Engine type `vllm`: vLLM, whose arguments and defaults depend on the installed version."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Literal

from tritonllm.engines import vllm_args, vllm_permissions
from tritonllm.engines.base import Args, EngineType, Package, Problem

# With these, an engine runs on other machines as well.
_DISTRIBUTED_BY = ("nnodes", "data_parallel_size_local")


class Vllm(EngineType):
    """See the module."""

    name = "vllm"
    description = "`vllm` generates text with vLLM."
    label = "vLLM"
    backend = "tritonllm.runtime.vllm_engine:VllmBackend"
    package = Package("vllm", "vLLM is not installed; `pip install vllm` or use `engine.type: simulated`")
    serves_adapters = True
    parallel_sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")

    def check(
        self, args: Args, *, trust_remote_code: bool = False, vllm_version: str | None = None
    ) -> list[Problem]:
        """See `EngineType.check`; by the table of this version of vLLM, or of the one nearest to it."""
        return vllm_args.check(args, trust_remote_code=trust_remote_code, version=vllm_version)

    def warning(self, vllm_version: str | None) -> str | None:
        """See `EngineType.warning`: whether there is a table for this version."""
        _, warning = vllm_args.table(vllm_version)
        return warning

    def needs_permission(self, name: str, value: Any, permitted: Collection[str]) -> str | None:
        """See `EngineType.needs_permission` and `vllm_permissions`."""
        return vllm_permissions.needs_permission(name, value, permitted)

    def gpus(self, args: Args) -> int:
        """See `EngineType.gpus`: one for each rank of tensor, pipeline and data."""
        sizes = [args.get(name, 1) for name in self.parallel_sizes]
        return math.prod(size for size in sizes if isinstance(size, int))

    def devices(self, args: Args) -> tuple[int, ...]:
        """See `EngineType.devices`: `device_ids`, or the first ones."""
        given = args.get("device_ids")
        if self.gpus(args) and isinstance(given, list) and all(isinstance(index, int) for index in given):
            return tuple(given)
        return super().devices(args)

    def max_adapters(self, args: Args) -> int:
        """See `EngineType.max_adapters`; the defaults are those of vLLM's `LoRAConfig`."""
        if args.get("enable_lora") is not True:
            return 0
        kept = args.get("max_cpu_loras") or args.get("max_loras") or 1
        return kept if isinstance(kept, int) else 1

    def memory_share(self, args: Args, vllm_version: str | None) -> float | None:
        """See `EngineType.memory_share`: `gpu_memory_utilization`, by default that of this version."""
        known, _ = vllm_args.table(vllm_version)
        default = known["arguments"].get("gpu_memory_utilization", {}).get("default", 0.9)
        return float(args.get("gpu_memory_utilization", default))

    def default(self, name: str, vllm_version: str | None) -> Any:
        """See `EngineType.default`; by the table of this version."""
        known, _ = vllm_args.table(vllm_version)
        default = known["arguments"].get(name, {}).get("default")
        return self.max_num_seqs({}) if name == "max_num_seqs" else default

    def search_space(self, gpus: int) -> Mapping[str, tuple[Any, ...]]:
        """See `EngineType.search_space`."""
        found: dict[str, tuple[Any, ...]] = {
            "max_num_seqs": (64, 128, 256, 512, 1024),
            "max_num_batched_tokens": (2048, 4096, 8192, 16384),
            "enable_chunked_prefill": (True, False),
            "enable_prefix_caching": (True, False),
            "stream_interval": (1, 4, 16),
        }
        if gpus:
            found |= {"gpu_memory_utilization": (0.85, 0.9, 0.95), "block_size": (16, 32, 64)}
        if gpus > 1:
            found["tensor_parallel_size"] = tuple(2**n for n in range(int(math.log2(gpus)) + 1))
        return found

    def loads_weights(self, args: Args) -> bool:
        """See `EngineType.loads_weights`."""
        return args.get("load_format") != "dummy"

    def weights_layout(self, args: Args) -> Literal["hf", "mistral"]:
        """See `EngineType.weights_layout`: that of `load_format`."""
        return "mistral" if args.get("load_format") == "mistral" else "hf"

    def directories(self, args: Args) -> tuple[str, ...]:
        """See `EngineType.directories`."""
        return vllm_args.directories(args)

    def is_distributed(self, args: Args) -> bool:
        """See `EngineType.is_distributed`."""
        return any(args.get(name) for name in _DISTRIBUTED_BY)

    def model_json(self, args: Args, prompt: Mapping[str, Any]) -> dict[str, Any]:
        """See `EngineType.model_json`: arguments as in Triton's vLLM backend, and what is for `runtime.vllm_chat`."""
        made = super().model_json(args, prompt)
        if prompt.get("format") == "Chat":
            # For the engine to try the chat template with, when it loads. Not part of its hash: a change is tried by the
            # next engine that loads.
            made["prompt"] = dict(prompt)
        return made


VLLM = Vllm()
