"""An engine type: what an endpoint can expect of its engine, and what every other part has to know of it. Pure.

The attributes and methods have the answers that fit most types; a type overrides those where it differs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import pydantic

from tritonllm import validation_errors

# vLLM's default on most devices, set explicitly so that an endpoint's capacity does not depend on the device.
DEFAULT_MAX_NUM_SEQS = 256

Args = Mapping[str, Any]
"""`spec.engine.args`."""

Problem = tuple[str, str]
"""The path of a field, such as `spec.engine.args.max_model_len`, and what is wrong with it."""


class Arguments(pydantic.BaseModel):
    """`spec.engine.args` of an engine type that has a fixed table of arguments."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Package:
    """What has to be installed beside tritonllm.

    Attributes:
        name: of the Python package, as it is imported.
        missing: what is wrong without it and what to do, for people.
    """

    name: str
    missing: str


class Upstream(NamedTuple):
    """The server that an engine sends its requests to.

    Attributes:
        url: base URL of its API.
        api_key_name: name of the API key; None for no key.
    """

    url: str
    api_key_name: str | None


class EngineType:
    """One value of `spec.engine.type`.

    Attributes:
        name: the value.
        description: one or two sentences for the documentation of the field.
        label: what error messages call such an engine.
        generates_text: False for a classifier, which is one Triton model without a pipeline and a guardrail.
        needs_weights: whether `spec.model` is required; if not, it is not supported.
        backend: of a type that generates text: the `tritonllm.runtime.backend.Backend` that does, as `module:Class`,
            imported only inside Triton's process.
        package: what has to be installed; None if nothing has to.
        arguments: the table of its arguments; None if they depend on a version, as vLLM's.
        parallel_sizes: arguments whose product is the number of its GPUs.
        window_cache: whether the KV cache of layers with a sliding window keeps the tokens of the window only.
        serves_adapters: whether `spec.adapters` is supported.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    label: ClassVar[str]
    generates_text: ClassVar[bool] = True
    needs_weights: ClassVar[bool] = True
    backend: ClassVar[str]
    package: ClassVar[Package | None] = None
    arguments: ClassVar[type[Arguments] | None] = None
    parallel_sizes: ClassVar[tuple[str, ...]] = ()
    window_cache: ClassVar[bool] = True
    serves_adapters: ClassVar[bool] = False

    def check(
        self, args: Args, *, trust_remote_code: bool = False, vllm_version: str | None = None
    ) -> list[Problem]:
        """Checks the arguments by name and type, before an engine takes a GPU.

        Args:
            args: to check.
            trust_remote_code: whether `spec.model` permits code from the repository.
            vllm_version: the version of vLLM that will run, such as `0.32.0`; None if it is unknown.

        Returns:
            Problems in the order of the arguments; empty if the engine accepts them.
        """
        assert self.arguments is not None
        known = self.arguments
        unknown = [name for name in args if name not in known.model_fields]
        found = [(name, unknown_argument(name, self.label, list(known.model_fields))) for name in unknown]
        try:
            known.model_validate({name: value for name, value in args.items() if name not in unknown})
        except pydantic.ValidationError as error:
            found += validation_errors.problems(error, known)
        return [(f"spec.engine.args.{name}", message) for name, message in found]

    def warning(self, vllm_version: str | None) -> str | None:
        """What the author of an endpoint should know about the check of its arguments; None if it is exact.

        Args:
            vllm_version: as for `check`.
        """
        return None

    def needs_permission(self, name: str, value: Any, permitted: Collection[str]) -> str | None:
        """Checks one argument against what a pool's owner permits.

        Args:
            name: of the argument.
            value: from the endpoint.
            permitted: the pool's `allow.engineArgs`.

        Returns:
            What is not permitted, in words; None if it is.
        """
        return None

    def upstream(self, args: Args) -> Upstream | None:
        """The server that the engine sends its requests to; None if it answers them itself."""
        return None

    def max_num_seqs(self, args: Args) -> int:
        """Number of sequences that the engine processes at once."""
        value = args.get("max_num_seqs")
        return value if isinstance(value, int) else DEFAULT_MAX_NUM_SEQS

    def context(self, args: Args) -> int | None:
        """Maximum number of tokens of prompt and answer together; None if only the weights say it."""
        value = args.get("max_model_len")
        return value if isinstance(value, int) else None

    def gpus(self, args: Args) -> int:
        """Number of GPUs that the engine uses where there are any."""
        return 0

    def devices(self, args: Args) -> tuple[int, ...]:
        """Indexes of these GPUs among those of the pod."""
        return tuple(range(self.gpus(args)))

    def max_adapters(self, args: Args) -> int:
        """Number of LoRA adapters that the engine keeps in memory; 0 if it was not told to serve any."""
        return 0

    def memory_share(self, args: Args, vllm_version: str | None) -> float | None:
        """Share of each GPU's memory that the engine reserves when it starts; None if it takes what it needs.

        Args:
            args: of the engine.
            vllm_version: as for `check`.
        """
        return None

    def loads_weights(self, args: Args) -> bool:
        """Whether the files of `spec.model` are loaded."""
        return self.needs_weights

    def model_files(self, args: Args) -> tuple[str, ...]:
        """Patterns of the files without which a directory is no model of this type."""
        return ("config.json", "*.safetensors") if self.loads_weights(args) else ("config.json",)

    def loads_pickle(self, args: Args) -> bool:
        """Whether the weights are a pickle file, which can run code, and come in no other format."""
        return False

    def required_package(self, args: Args) -> Package | None:
        """What has to be installed; None if nothing has to."""
        return self.package

    def weights_layout(self, args: Args) -> Literal["hf", "mistral"]:
        """Which weights are read, where a repository of Mistral AI has them in two layouts."""
        return "hf"

    def directories(self, args: Args) -> tuple[str, ...]:
        """Absolute paths of the directories that arguments name beside `spec.model`, such as that of a draft model."""
        return ()

    def is_distributed(self, args: Args) -> bool:
        """Whether the engine runs on other machines as well."""
        return False

    def default(self, name: str, vllm_version: str | None) -> Any:
        """The value of an argument that is left out; None if the engine decides, or has no such argument.

        Args:
            name: of the argument.
            vllm_version: as for `check`.
        """
        if name == "max_num_seqs":
            return self.max_num_seqs({})
        field = self.arguments.model_fields.get(name) if self.arguments is not None else None
        return None if field is None else field.default

    def search_space(self, gpus: int) -> Mapping[str, tuple[Any, ...]]:
        """What `tritonllm tune` tries by itself: values by argument, none of which changes answers; empty for nothing.

        Args:
            gpus: number of GPUs that can be used.
        """
        return {}

    def hashed(self, args: Args) -> dict[str, Any]:
        """The arguments as they enter the `spec_hash` of the engine's model."""
        return {**args, "max_num_seqs": self.max_num_seqs(args)}

    def model_json(self, args: Args, prompt: Mapping[str, Any]) -> dict[str, Any]:
        """What `1/model.json` of the engine's model holds beside the weights.

        Args:
            args: of the engine.
            prompt: `spec.prompt` as it was given.
        """
        return {"max_num_seqs": self.max_num_seqs(args), **args}


def unknown_argument(name: str, label: str, known: list[str]) -> str:
    """The message about an argument that an engine does not have.

    Args:
        name: of the argument.
        label: what the engine is called.
        known: arguments that can be meant instead.
    """
    return f"{label} has no argument `{name}`{validation_errors.suggestion(name, known)}"
