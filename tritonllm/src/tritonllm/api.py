"""The LLMEndpoint resource: the only source of its validation, its JSON schema and its documentation.

Everything that reads an endpoint (CLI, renderer, operator, runtime) does so through these models.
They are strict: an unknown field or a value of the wrong type is an error, because ignoring a typo
could serve a model with a weaker policy than its author wrote.
"""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic_core import PydanticCustomError

from tritonllm import engines, schema
from tritonllm.pipeline_spec import Guardrails, Limits, Prompt, Sampling
from tritonllm.rules import Rule as Rule

GROUP = "tritonllm.io"
API_VERSION = f"{GROUP}/v1alpha1"
KIND = "LLMEndpoint"

# No text averages this many characters per token, so a longer prompt cannot fit into the context and is refused
# without reading it. Without `max_model_len` the context is assumed to be a long one.
CHARACTERS_PER_TOKEN = 16
ASSUMED_CONTEXT = 131_072

# Adapters are tenants of one model: more of them than this are more endpoints.
MAX_ADAPTERS = 64

Name = schema.Name
Revision = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9A-Za-z_./-]{1,128}$")]
Repo = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9A-Za-z._-]{1,96}/[0-9A-Za-z._-]{1,96}$")]
# https://github.com/huggingface/huggingface_hub: utils/_validators.py
NO_REPO = re.compile(r"--|\.\.|(^|/)[-.]|[-.](/|$)|\.git$")
Commit = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{40}$")]
_COMMIT = re.compile(r"[0-9a-f]{40}")


IMAGES = "/var/lib/tritonllm/images"
"""Where charts/tritonllm-pool mounts image volumes: each image at its digest."""


def image_directory(image: str) -> str:
    """Where the files of an image are.

    Args:
        image: its reference, with a digest.
    """
    return posixpath.join(IMAGES, image.rpartition(":")[2])


def _repo(value: str | None) -> str | None:
    """Checks that a repository has a name as on the Hub."""
    if value is not None and NO_REPO.search(value):
        raise PydanticCustomError(
            "bad_repo",
            "must not contain `--` or `..`, must not have a part that starts or ends with `-` or `.`, and must not"
            " end in `.git`",
        )
    return value


class Model(schema.Model):
    """The weights to serve."""

    repo: Repo | None = pydantic.Field(
        default=None, description="Repository on the Hugging Face Hub, `organisation/name`."
    )
    path: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=1024)] | None = pydantic.Field(
        default=None, description="Directory of the weights, absolute or relative to the weights volume."
    )
    image: (
        Annotated[str, pydantic.StringConstraints(pattern=r"^[^\s@]{1,440}@sha256:[0-9a-f]{64}$")] | None
    ) = pydantic.Field(
        default=None,
        description="Image whose files are the weights, with its digest: `registry/name@sha256:…`. The pods of a pool"
        " mount it as an image volume.",
    )
    sub_path: Annotated[str, pydantic.StringConstraints(pattern=r"^[^/\s][^\s]{0,254}$")] | None = (
        pydantic.Field(default=None, description="Directory of the weights in `image`.")
    )
    revision: Revision = pydantic.Field(
        default="main", description="Branch, tag or commit of `repo`; resolved to a commit once."
    )
    trust_remote_code: bool = pydantic.Field(
        default=False, description="Run Python code from the repository. Only for authors you trust."
    )
    allow_pickle: bool = pydantic.Field(
        default=False,
        description="Use weights in PyTorch's pickle format if `repo` has no safetensors. Loading them can run code."
        " Only for authors you trust.",
    )

    _named_as_on_the_hub = pydantic.field_validator("repo")(_repo)

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.repo, self.path, self.image)) != 1:
            raise PydanticCustomError("one_source", "exactly one of `repo`, `path` and `image` is required")
        if self.sub_path is not None and self.image is None:
            raise PydanticCustomError("no_image", "`subPath` requires `image`")
        if self.sub_path is not None and ".." in self.sub_path.split("/"):
            raise PydanticCustomError("sub_path_climbs", "`subPath` must not contain a `..` component")
        if self.path is not None and ".." in self.path.split("/"):
            raise PydanticCustomError("path_climbs", "`path` must not contain a `..` component")
        if ".." in self.revision:
            raise PydanticCustomError("revision_climbs", "`revision` must not contain `..`")
        return self


class Adapter(schema.Model):
    """A LoRA adapter of the model, served as `endpoint:name`."""

    name: Name = pydantic.Field(description="Name of the adapter; requests ask for `endpoint:name`.")
    repo: Repo | None = pydantic.Field(
        default=None, description="Repository on the Hugging Face Hub, `organisation/name`."
    )
    path: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=1024)] | None = pydantic.Field(
        default=None, description="Directory of the adapter, absolute or relative to the weights volume."
    )
    revision: Revision = pydantic.Field(
        default="main", description="Branch, tag or commit of `repo`; resolved to a commit once."
    )

    _named_as_on_the_hub = pydantic.field_validator("repo")(_repo)

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.repo is None) == (self.path is None):
            raise PydanticCustomError("one_adapter_source", "exactly one of `repo` and `path` is required")
        if self.path is not None and ".." in self.path.split("/"):
            raise PydanticCustomError("path_climbs", "`path` must not contain a `..` component")
        if ".." in self.revision:
            raise PydanticCustomError("revision_climbs", "`revision` must not contain `..`")
        return self


class Engine(schema.Model):
    """The engine that generates the text."""

    type: engines.Name = pydantic.Field(
        default="vllm",
        description=" ".join(["Type of the engine.", *(each.description for each in engines.TYPES.values())]),
    )
    args: dict[str, Any] = pydantic.Field(
        default_factory=dict, description="Arguments of the engine, under its own names."
    )

    @property
    def definition(self) -> engines.EngineType:
        """What is particular to its type."""
        return engines.TYPES[self.type]

    @property
    def max_num_seqs(self) -> int:
        """Number of sequences that the engine processes at once."""
        return self.definition.max_num_seqs(self.args)

    @property
    def gpus(self) -> int:
        """Number of GPUs that the engine uses where there are any."""
        return self.definition.gpus(self.args)

    @property
    def devices(self) -> tuple[int, ...]:
        """Indexes of these GPUs among those of the pod."""
        return self.definition.devices(self.args)

    @property
    def max_adapters(self) -> int:
        """Number of adapters that the engine keeps in memory; 0 if it serves none."""
        return self.definition.max_adapters(self.args)

    @pydantic.model_validator(mode="after")
    def _one_device_for_each_rank(self) -> Self:
        if len(self.devices) != self.gpus:
            raise PydanticCustomError(
                "device_ids",
                "`args.device_ids` has {given} GPUs, and the engine uses {gpus}: {sizes}",
                {
                    "given": len(self.devices),
                    "gpus": self.gpus,
                    "sizes": " × ".join(self.definition.parallel_sizes),
                },
            )
        return self


class Benchmark(schema.Model):
    """A benchmark that the operator runs after a roll, once for each version of the engine.

    The pool has to permit it (`allow.benchmarks` of its chart). Outside Kubernetes it has no effect.
    """

    concurrency: Annotated[
        list[Annotated[int, pydantic.Field(ge=1, le=1024)]], pydantic.Field(min_length=1, max_length=8)
    ] = pydantic.Field(default=[16], description="Requests in progress at any time; each is measured.")
    requests: int | None = pydantic.Field(
        default=None,
        ge=1,
        le=100000,
        description="Number of requests at each concurrency (default: 10 per request in progress, at least 50).",
    )
    input_tokens: int = pydantic.Field(
        default=512, ge=1, le=1000000, description="Length of synthetic prompts in tokens."
    )
    max_tokens: int = pydantic.Field(
        default=128, ge=1, le=1000000, description="Number of tokens to generate for each request."
    )


class Spec(schema.Model):
    """Specification of the endpoint."""

    pool: Name = pydantic.Field(
        description="Name of the pool that serves the endpoint: that of the Deployment of charts/tritonllm-pool in the same namespace."
    )
    model: Model | None = pydantic.Field(
        default=None, description="The weights to serve. Required, except for engine types without weights."
    )
    engine: Engine = pydantic.Field(default_factory=Engine)
    adapters: Annotated[list[Adapter], pydantic.Field(max_length=MAX_ADAPTERS)] = pydantic.Field(
        default_factory=list,
        description="LoRA adapters of the model. They are loaded and unloaded while the engine runs. Requires"
        " `engine.args.enable_lora: true`.",
    )
    prompt: Prompt = pydantic.Field(default_factory=Prompt)
    sampling: Sampling = pydantic.Field(default_factory=Sampling)
    guardrails: Guardrails = pydantic.Field(
        description="The guardrail policy. Required, even if empty, so that a typo in this key cannot disable it."
    )
    limits: Limits = pydantic.Field(default_factory=Limits)
    benchmark: Benchmark | None = pydantic.Field(
        default=None, description="A benchmark after each roll to another engine (default: none)."
    )

    @pydantic.model_validator(mode="after")
    def _weights_for_real_engines(self) -> Self:
        needed = self.engine.definition.needs_weights
        if self.model is None and needed:
            raise PydanticCustomError(
                "model_missing", "`model` is required for engine type {type}", {"type": self.engine.type}
            )
        if self.model is not None and not needed:
            raise PydanticCustomError(
                "model_unused", "`model` is not supported by engine type {type}", {"type": self.engine.type}
            )
        return self

    @pydantic.field_validator("adapters")
    @classmethod
    def _unique_adapters(cls, adapters: list[Adapter]) -> list[Adapter]:
        schema.require_unique_names("adapter", [adapter.name for adapter in adapters])
        return adapters

    @pydantic.model_validator(mode="after")
    def _adapters_for_engines_that_serve_them(self) -> Self:
        given, most = len(self.adapters), self.engine.max_adapters
        if given and not self.engine.definition.serves_adapters:
            raise PydanticCustomError(
                "adapters_unused",
                "`adapters` is not supported by engine type {type}",
                {"type": self.engine.type},
            )
        if given and not most:
            raise PydanticCustomError(
                "adapters_disabled",
                "`adapters` requires `engine.args.enable_lora: true`; changing this argument replaces the engine, changes"
                " of `adapters` do not",
            )
        if given > most:
            raise PydanticCustomError(
                "many_adapters",
                "`adapters` has {given} adapters, and the engine keeps {most} in memory; set `engine.args.max_cpu_loras`"
                " to at least {given}",
                {"given": given, "most": most},
            )
        if self.model is not None and self.model.repo in {adapter.repo for adapter in self.adapters} - {None}:
            raise PydanticCustomError(
                "adapter_is_model",
                "`adapters` must not contain the repository of `model`, {repo}",
                {"repo": self.model.repo},
            )
        return self

    @pydantic.model_validator(mode="after")
    def _classifiers_generate_nothing(self) -> Self:
        if not self.engine.definition.generates_text:
            default = {
                "prompt": Prompt(),
                "sampling": Sampling(),
                "guardrails": Guardrails(),
                "limits": Limits(),
                "benchmark": None,
            }
            given = [f"`{name}`" for name, value in default.items() if getattr(self, name) != value]
            if given:
                raise PydanticCustomError(
                    "classifier_generates",
                    "{fields} must be empty with engine type {type}, which generates no text",
                    {"fields": " and ".join(given), "type": self.engine.type},
                )
        return self

    @property
    def prompt_characters(self) -> int:
        """Maximum length of a prompt in characters; a longer one cannot fit into the context."""
        context = self.engine.definition.context(self.engine.args)
        return CHARACTERS_PER_TOKEN * (ASSUMED_CONTEXT if context is None else context)

    @property
    def capacity(self) -> int:
        """Number of requests that one pod processes at once."""
        return min(self.limits.max_concurrent_requests, self.engine.max_num_seqs)


class Metadata(schema.Model):
    """Standard metadata of a Kubernetes object. Fields other than these are ignored."""

    model_config = pydantic.ConfigDict(extra="ignore")

    name: Name = pydantic.Field(
        description="Name of the endpoint, and of the Triton model that clients send requests to."
    )
    namespace: str | None = pydantic.Field(
        default=None, description="Namespace of the object; ignored outside Kubernetes."
    )

    @pydantic.field_validator("name")
    @classmethod
    def _not_a_part(cls, value: str) -> str:
        if value.endswith(("-engine", "-guardrail")):
            raise PydanticCustomError("reserved_suffix", "must not end in `-engine` or `-guardrail`")
        return value


class Resolved(schema.Model):
    """What the operator has resolved, so that every pod serves the same weights. Not part of the spec."""

    commit: Commit | None = pydantic.Field(
        default=None, description="Commit that `spec.model.revision` was resolved to."
    )
    adapters: dict[str, Commit] = pydantic.Field(
        default_factory=dict,
        description="Commits that the revisions of adapters were resolved to, by the adapter's name.",
    )
    request: Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{10}$")] | None = pydantic.Field(
        default=None,
        description="By which request `spec.model.revision` is resolved again; None for the first time.",
    )


class LLMEndpoint(schema.Model):
    """An endpoint: one model behind one guardrail policy, served by one pool."""

    api_version: Literal["tritonllm.io/v1alpha1"] = pydantic.Field(description="API version of the resource.")
    kind: Literal["LLMEndpoint"] = pydantic.Field(description="Kind of the resource.")
    metadata: Metadata
    spec: Spec
    status: dict[str, Any] | None = pydantic.Field(
        default=None, exclude=True, description="Written by the operator; ignored on input."
    )
    resolved: Resolved | None = pydantic.Field(
        default=None, description="Written by the operator into the file that its pods read."
    )

    @property
    def name(self) -> str:
        """Name of the pipeline model; of a classifier, its only model."""
        return self.metadata.name

    @property
    def is_classifier(self) -> bool:
        """Whether it serves a classifier for the rules of other endpoints, and generates no text."""
        return not self.spec.engine.definition.generates_text

    @property
    def models(self) -> tuple[str, ...]:
        """Names of its models, each after those it depends on."""
        return (self.name,) if self.is_classifier else (self.engine_name, self.guardrail_name, self.name)

    @property
    def classifiers(self) -> dict[str, str]:
        """The classifiers that its rules ask, each with the path of a rule that does."""
        found: dict[str, str] = {}
        for direction in ("input", "output"):
            for index, rule in enumerate(getattr(self.spec.guardrails, direction)):
                if rule.classifier is not None:
                    path = f"spec.guardrails.{direction}[{index}].classifier.model"
                    found.setdefault(rule.classifier.model, path)
        return found

    @property
    def guardrail_name(self) -> str:
        """Name of the guardrail model."""
        return f"{self.metadata.name}-guardrail"

    @property
    def engine_name(self) -> str:
        """Name of the engine model: the one with the weights."""
        return self.name if self.is_classifier else f"{self.name}-engine"

    @property
    def commit(self) -> str | None:
        """The commit of the weights, if it is known without a request to the Hub."""
        model = self.spec.model
        if model is None or model.repo is None:
            return None
        if _COMMIT.fullmatch(model.revision):
            return model.revision
        return self.resolved and self.resolved.commit

    def at(self, commit: str) -> Self:
        """A copy of the endpoint with its weights at this commit."""
        return self._resolved(commit=commit)

    def requested(self, request: str) -> Self:
        """A copy of the endpoint whose weights are at an unknown commit: its revision has to be resolved again.

        Args:
            request: by which its author asked for that.
        """
        return self._resolved(commit=None, request=request)

    def _resolved(self, **update: Any) -> Self:
        before = self.resolved or Resolved()
        return self.model_copy(update={"resolved": before.model_copy(update=update)})

    def adapter_commit(self, adapter: Adapter) -> str | None:
        """The commit of an adapter, if it is known without a request to the Hub."""
        if adapter.repo is None:
            return None
        if _COMMIT.fullmatch(adapter.revision):
            return adapter.revision
        return self.resolved.adapters.get(adapter.name) if self.resolved else None

    def with_adapters_at(self, commits: dict[str, str]) -> Self:
        """A copy of the endpoint with its adapters at these commits.

        Args:
            commits: by the adapter's name.
        """
        before = self.resolved.adapters if self.resolved else {}
        return self._resolved(adapters=before | commits)

    def adapter_directory(self, adapter: Adapter, weights: str) -> str | None:
        """The directory of an adapter; None while the commit is unknown.

        Args:
            adapter: one of the endpoint's.
            weights: root of the weights volume, an absolute path.
        """
        if adapter.path is not None:
            return posixpath.join(weights, adapter.path)
        assert adapter.repo is not None
        commit = self.adapter_commit(adapter)
        return commit and posixpath.join(weights, adapter.repo.replace("/", "--"), commit)

    def directory(self, weights: str) -> str | None:
        """The directory of the weights; `tritonllm.weights.layout` defines its structure.

        Args:
            weights: root of the weights volume, an absolute path.

        Returns:
            A directory; None if the engine needs no weights. While the commit is unknown, the revision takes its
            place.
        """
        model = self.spec.model
        if model is None:
            return None
        if model.path is not None:
            return posixpath.join(weights, model.path)
        if model.image is not None:
            return posixpath.join(image_directory(model.image), model.sub_path or "").rstrip("/")
        assert model.repo is not None
        return posixpath.join(weights, model.repo.replace("/", "--"), self.commit or model.revision)
