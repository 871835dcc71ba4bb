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
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from tritonllm.sampling import SamplingParameters, Text

GROUP = "tritonllm.io"
API_VERSION = f"{GROUP}/v1alpha1"
KIND = "LLMEndpoint"

# vLLM's default on most devices, set explicitly so that an endpoint's capacity does not depend on the device.
DEFAULT_MAX_NUM_SEQS = 256

# No text averages this many characters per token, so a longer prompt cannot fit into the context and is refused
# without reading it. Without `max_model_len` the context is assumed to be a long one.
CHARACTERS_PER_TOKEN = 16
ASSUMED_CONTEXT = 131_072

Name = Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?$")]
Phrase = Annotated[str, pydantic.StringConstraints(min_length=1, max_length=256)]
Repo = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9A-Za-z._-]{1,96}/[0-9A-Za-z._-]{1,96}$")]
# https://github.com/huggingface/huggingface_hub: utils/_validators.py
NO_REPO = re.compile(r"--|\.\.|(^|/)[-.]|[-.](/|$)|\.git$")
Commit = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{40}$")]
_COMMIT = re.compile(r"[0-9a-f]{40}")


class _Model(pydantic.BaseModel):
    """Strict and immutable; camelCase in files, snake_case in Python."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel)

    def given(self) -> dict[str, Any]:
        """This part as in a file, as JSON, without fields that have their default value.

        So an explicit default does not change a hash, and a new field in a later version does not change the hash of
        existing specs. The aliases are asked for here: older releases of pydantic don't know a setting for that, and
        ignore it.
        """
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


class Model(_Model):
    """The weights to serve."""

    repo: Repo | None = pydantic.Field(
        default=None, description="Repository on the Hugging Face Hub, `organisation/name`."
    )
    path: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=1024)] | None = pydantic.Field(
        default=None, description="Directory of the weights, absolute or relative to the weights volume."
    )
    revision: Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9A-Za-z_./-]{1,128}$")] = (
        pydantic.Field(
            default="main", description="Branch, tag or commit of `repo`; resolved to a commit once."
        )
    )
    trust_remote_code: bool = pydantic.Field(
        default=False, description="Run Python code from the repository. Only for authors you trust."
    )
    allow_pickle: bool = pydantic.Field(
        default=False,
        description="Use weights in PyTorch's pickle format if `repo` has no safetensors. Loading them can run code."
        " Only for authors you trust.",
    )

    @pydantic.field_validator("repo")
    @classmethod
    def _named_as_on_the_hub(cls, value: str | None) -> str | None:
        if value is not None and NO_REPO.search(value):
            raise PydanticCustomError(
                "bad_repo",
                "must not contain `--` or `..`, must not have a part that starts or ends with `-` or `.`, and must not"
                " end in `.git`",
            )
        return value

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.repo is None) == (self.path is None):
            raise PydanticCustomError("one_source", "exactly one of `repo` and `path` is required")
        if self.path is not None and ".." in self.path.split("/"):
            raise PydanticCustomError("path_climbs", "`path` must not contain a `..` component")
        if ".." in self.revision:
            raise PydanticCustomError("revision_climbs", "`revision` must not contain `..`")
        return self


class Engine(_Model):
    """The engine that generates the text."""

    type: Literal["vllm", "simulated"] = pydantic.Field(
        default="vllm",
        description="Type of the engine. `simulated` generates random words, without weights or a GPU.",
    )
    args: dict[str, Any] = pydantic.Field(
        default_factory=dict, description="Arguments of the engine, under its own names."
    )

    @property
    def max_num_seqs(self) -> int:
        """Number of sequences that the engine processes at once."""
        value = self.args.get("max_num_seqs")
        return value if isinstance(value, int) else DEFAULT_MAX_NUM_SEQS


class Prompt(_Model):
    """How `text_input` becomes the model's prompt."""

    format: Literal["Raw", "Chat"] = pydantic.Field(
        default="Raw",
        description="Raw: `text_input` as it is. Chat: `text_input` as the user's message in the model's chat template.",
    )
    system: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=16384)] | None = (
        pydantic.Field(
            default=None,
            description="System message of conversations that have none. Requires `format: Chat`.",
        )
    )

    @pydantic.model_validator(mode="after")
    def _system_needs_chat(self) -> Self:
        if self.system is not None and self.format != "Chat":
            raise PydanticCustomError("system_needs_chat", "`system` requires `format: Chat`")
        return self


class SamplingDefaults(SamplingParameters):
    """Sampling parameters of requests that do not set them; names and meanings are those of vLLM's `SamplingParams`.

    The engine's defaults apply to those that are not set here. `stop` is a list, because a field of Kubernetes has one
    type; in a request it can also be a string.
    """

    stop: list[Text] | None = pydantic.Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default=None, max_length=64, description="Stop sequences: strings that end the answer."
    )


class Sampling(_Model):
    """Defaults and limits of the sampling parameters."""

    defaults: SamplingDefaults = pydantic.Field(
        default_factory=SamplingDefaults, description="Sampling parameters of requests that do not set them."
    )
    max_tokens_limit: int = pydantic.Field(
        default=4096,
        ge=1,
        le=1_000_000,
        description="Maximum `max_tokens` of a request; a higher one is refused.",
    )

    @pydantic.model_validator(mode="after")
    def _defaults_keep_the_limit(self) -> Self:
        if (self.defaults.max_tokens or 0) > self.max_tokens_limit:
            raise PydanticCustomError(
                "over_limit",
                "`defaults.max_tokens` ({given}) must not exceed `maxTokensLimit` ({limit})",
                {"given": self.defaults.max_tokens, "limit": self.max_tokens_limit},
            )
        return self


class Banned(_Model):
    """Phrases, matched regardless of case, width, accents, look-alike letters, leet and spacing."""

    phrases: list[Phrase] = pydantic.Field(min_length=1, max_length=1000, description="The phrases to match.")
    match: Literal["Word", "Substring"] = pydantic.Field(
        default="Word", description="Word: only between word boundaries. Substring: also inside words."
    )


class Profanity(_Model):
    """The word list of better_profanity."""

    allow: list[Phrase] = pydantic.Field(
        default_factory=list,
        max_length=1000,
        description="Entries of the list that are allowed, such as `god`.",
    )


class Pattern(_Model):
    """A regular expression in RE2's syntax, matched in linear time against the text as it is."""

    regex: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=1024)] = pydantic.Field(
        description="The regular expression; must not match the empty string. Start it with `(?i)` to ignore case."
    )

    @pydantic.field_validator("regex")
    @classmethod
    def _compiles(cls, value: str) -> str:
        # Imported here, because few endpoints have patterns.
        import re2

        options = re2.Options()
        options.log_errors = False
        try:
            compiled = re2.compile(value, options)
        except re2.error as error:
            reason = error.args[0]
            text = reason.decode() if isinstance(reason, bytes) else str(reason)
            raise PydanticCustomError(
                "bad_regex", "is not a valid RE2 expression: {reason}", {"reason": text}
            ) from None
        if compiled.search("") is not None:
            raise PydanticCustomError("empty_match", "matches the empty string, so it would match everywhere")
        return value


class Pii(_Model):
    """Personal data, recognized by its form and, where there is one, its check digits."""

    types: Annotated[
        list[Literal["email", "card", "iban", "ssn", "ip"]], pydantic.Field(min_length=1, max_length=8)
    ] = pydantic.Field(
        description="Types to look for. card, iban: with valid check digits. ssn: United States, with hyphens. ip: IPv4 and IPv6."
    )


class Secrets(_Model):
    """Credentials: keys with a known prefix, JSON Web Tokens, private keys in PEM."""


class Rule(_Model):
    """What to look for, and what to do if it is found."""

    name: Name = pydantic.Field(description="Name of the rule in verdicts and metrics.")
    action: Literal["Block", "Mask", "Flag"] = pydantic.Field(
        description="Block: refuse the request, or end the answer. Mask: replace each match. Flag: only report it."
    )
    banned: Banned | None = None
    profanity: Profanity | None = None
    pattern: Pattern | None = None
    pii: Pii | None = None
    secrets: Secrets | None = None
    replacement: Annotated[str, pydantic.StringConstraints(max_length=64)] = pydantic.Field(
        default="[REDACTED]",
        description="Replacement for each match, with `action: Mask`. With `pii` and `secrets`, the default stands for the type: [EMAIL], [CARD], [IBAN], [SSN], [IP], [SECRET].",
    )

    @pydantic.model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(getattr(self, kind) is not None for kind in RULE_KINDS) != 1:
            raise PydanticCustomError(
                "one_kind",
                "exactly one of {kinds} is required",
                {"kinds": kinds_in_words()},
            )
        return self


# Every optional field of a rule is a kind.
RULE_KINDS = tuple(name for name, field in Rule.model_fields.items() if field.default is None)


def kinds_in_words() -> str:
    """The kinds of rule, as messages list them."""
    *others, last = (f"`{kind}`" for kind in RULE_KINDS)
    return f"{', '.join(others)} and {last}"


Rules = Annotated[list[Rule], pydantic.Field(max_length=32)]


class Guardrails(_Model):
    """The guardrail policy of the endpoint."""

    failure_policy: Literal["Closed", "Open"] = pydantic.Field(
        default="Closed",
        description="What happens if the guardrail itself fails. Closed: the request fails. Open: the text passes unchecked.",
    )
    input: Rules = pydantic.Field(default_factory=list, description="Rules for prompts.")
    output: Rules = pydantic.Field(default_factory=list, description="Rules for answers.")

    @pydantic.field_validator("input", "output")
    @classmethod
    def _unique_names(cls, rules: list[Rule]) -> list[Rule]:
        names = [rule.name for rule in rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise PydanticCustomError(
                "duplicate_rule", "duplicate rule names: {names}", {"names": ", ".join(twice)}
            )
        return rules


class Limits(_Model):
    """Limits of the endpoint in each pod."""

    max_concurrent_requests: int = pydantic.Field(
        default=256, ge=1, le=1024, description="Maximum number of requests processed at once."
    )
    max_queued_requests: int = pydantic.Field(
        default=512,
        ge=0,
        le=65536,
        description="Maximum number of requests in the queue; further ones are refused.",
    )
    request_timeout_seconds: float = pydantic.Field(
        default=300,
        gt=0,
        le=86400,
        description="Maximum time of a request, from its arrival to the last token; then its `finish_reason` is `timeout`.",
    )
    pipeline_instances: int = pydantic.Field(
        default=1,
        ge=1,
        le=16,
        description="Number of processes of the pipeline (Triton's `instance_group` count). Several keep streams smooth "
        "at thousands of tokens per second, and need a processor core each. The limits are divided among them.",
    )


class Spec(_Model):
    """Specification of the endpoint."""

    pool: Name = pydantic.Field(
        description="Name of the pool that serves the endpoint: a Helm release of charts/tritonllm-pool in the same namespace."
    )
    model: Model | None = pydantic.Field(
        default=None, description="The weights to serve. Required, except for the simulated engine."
    )
    engine: Engine = pydantic.Field(default_factory=Engine)
    prompt: Prompt = pydantic.Field(default_factory=Prompt)
    sampling: Sampling = pydantic.Field(default_factory=Sampling)
    guardrails: Guardrails = pydantic.Field(
        description="The guardrail policy. Required, even if empty, so that a typo in this key cannot disable it."
    )
    limits: Limits = pydantic.Field(default_factory=Limits)

    @pydantic.model_validator(mode="after")
    def _weights_for_real_engines(self) -> Self:
        if self.model is None and self.engine.type != "simulated":
            raise PydanticCustomError(
                "model_missing", "`model` is required for engine type {type}", {"type": self.engine.type}
            )
        if self.model is not None and self.engine.type == "simulated":
            raise PydanticCustomError("model_unused", "`model` is not supported by engine type simulated")
        return self

    @property
    def prompt_characters(self) -> int:
        """Maximum length of a prompt in characters; a longer one cannot fit into the context."""
        context = self.engine.args.get("max_model_len")
        return CHARACTERS_PER_TOKEN * (context if isinstance(context, int) else ASSUMED_CONTEXT)

    @property
    def capacity(self) -> int:
        """Number of requests that one pod processes at once."""
        return min(self.limits.max_concurrent_requests, self.engine.max_num_seqs)


class Metadata(_Model):
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


class Resolved(_Model):
    """What the operator has resolved, so that every pod serves the same weights. Not part of the spec."""

    commit: Commit = pydantic.Field(description="Commit that `spec.model.revision` was resolved to.")


class LLMEndpoint(_Model):
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
        """Name of the pipeline model."""
        return self.metadata.name

    @property
    def guardrail_name(self) -> str:
        """Name of the guardrail model."""
        return f"{self.metadata.name}-guardrail"

    @property
    def engine_name(self) -> str:
        """Name of the engine model."""
        return f"{self.metadata.name}-engine"

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
        return self.model_copy(update={"resolved": Resolved(commit=commit)})

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
        assert model.repo is not None
        return posixpath.join(weights, model.repo.replace("/", "--"), self.commit or model.revision)
