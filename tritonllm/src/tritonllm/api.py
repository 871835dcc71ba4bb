"""The LLMEndpoint resource: the only source of its validation, its JSON schema and its documentation.

Everything that reads an endpoint (CLI, renderer, operator, runtime) reads it through these models.
They are strict on purpose: an unknown field or a value of the wrong type is an error, because a
misspelling that is skipped could serve a model with a weaker policy than its owner wrote.
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

# vLLM's own default on most devices. It is made explicit so that an endpoint's capacity does not
# depend on the device it lands on.
DEFAULT_MAX_NUM_SEQS = 256

# No text has this many characters to a token, so a longer prompt can't fit and need not be looked at. Where the
# arguments leave the context to the model, it is taken for a long one; `max_model_len` says otherwise.
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
    """Strict, immutable, camelCase outside and snake_case inside."""

    model_config = pydantic.ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=to_camel,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


class Model(_Model):
    """Which weights to serve."""

    repo: Repo | None = pydantic.Field(
        default=None, description="Hugging Face repository, `organisation/name`."
    )
    path: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=1024)] | None = pydantic.Field(
        default=None, description="Directory of the weights: absolute, or relative to the weights volume."
    )
    revision: Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9A-Za-z_./-]{1,128}$")] = (
        pydantic.Field(
            default="main", description="Branch, tag or commit of `repo`; resolved to a commit once."
        )
    )
    trust_remote_code: bool = pydantic.Field(
        default=False, description="Run Python code that comes with the weights. Only for authors you trust."
    )
    allow_pickle: bool = pydantic.Field(
        default=False,
        description="Take weights of `repo` in PyTorch's own format where it has no safetensors. They can run code"
        " when they are loaded. Only for authors you trust.",
    )

    @pydantic.field_validator("repo")
    @classmethod
    def _named_as_on_the_hub(cls, value: str | None) -> str | None:
        if value is not None and NO_REPO.search(value):
            raise PydanticCustomError(
                "bad_repo",
                "must not have `--` or `..`, a part that begins or ends with `-` or `.`, or end in `.git`",
            )
        return value

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.repo is None) == (self.path is None):
            raise PydanticCustomError("one_source", "needs exactly one of `repo` and `path`")
        if self.path is not None and ".." in self.path.split("/"):
            raise PydanticCustomError("path_climbs", "`path` must not climb with `..`")
        if ".." in self.revision:
            raise PydanticCustomError("revision_climbs", "`revision` must not contain `..`")
        return self


class Engine(_Model):
    """What generates the text."""

    type: Literal["vllm", "simulated"] = pydantic.Field(
        default="vllm", description="`simulated` needs no weights and no GPU, and invents its answers."
    )
    args: dict[str, Any] = pydantic.Field(
        default_factory=dict, description="Arguments of the engine, under the engine's own names."
    )

    @property
    def max_num_seqs(self) -> int:
        """Sequences the engine works on at once."""
        value = self.args.get("max_num_seqs")
        return value if isinstance(value, int) else DEFAULT_MAX_NUM_SEQS


class Prompt(_Model):
    """How `text_input` becomes what the model reads."""

    format: Literal["Raw", "Chat"] = pydantic.Field(
        default="Raw",
        description="Raw: `text_input` untouched. Chat: it is the user's turn of the model's own chat template.",
    )
    system: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=16384)] | None = (
        pydantic.Field(
            default=None, description="System turn of a chat whose request brings none. Needs `format: Chat`."
        )
    )

    @pydantic.model_validator(mode="after")
    def _system_needs_chat(self) -> Self:
        if self.system is not None and self.format != "Chat":
            raise PydanticCustomError("system_needs_chat", "`system` needs `format: Chat`")
        return self


class SamplingDefaults(SamplingParameters):
    """What a request gets that does not say; names and meanings are vLLM's `SamplingParams`.

    What is not set here either is left to the engine. `stop` is a list, as a field of Kubernetes has one type; a
    request may also give it as one text.
    """

    stop: list[Text] | None = pydantic.Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default=None, max_length=64, description="Texts that end the answer."
    )


class Sampling(_Model):
    """What a request gets when it does not say, and what it can't have."""

    defaults: SamplingDefaults = pydantic.Field(
        default_factory=SamplingDefaults, description="Used where a request says nothing."
    )
    max_tokens_limit: int = pydantic.Field(
        default=4096, ge=1, le=1_000_000, description="A request for more `max_tokens` is refused."
    )

    @pydantic.model_validator(mode="after")
    def _defaults_keep_the_limit(self) -> Self:
        if (self.defaults.max_tokens or 0) > self.max_tokens_limit:
            raise PydanticCustomError(
                "over_limit",
                "`defaults.max_tokens` is {given}, over `maxTokensLimit` {limit}",
                {"given": self.defaults.max_tokens, "limit": self.max_tokens_limit},
            )
        return self


class Banned(_Model):
    """Phrases found whatever their case, width, accents, look-alike letters, leet or spacing."""

    phrases: list[Phrase] = pydantic.Field(
        min_length=1, max_length=1000, description="What must not be said."
    )
    match: Literal["Word", "Substring"] = pydantic.Field(
        default="Word", description="Word: only between word boundaries. Substring: also inside a word."
    )


class Profanity(_Model):
    """The word list of better_profanity."""

    allow: list[Phrase] = pydantic.Field(
        default_factory=list,
        max_length=1000,
        description="Entries of the list to let through, such as `god`.",
    )


class Pattern(_Model):
    """A regular expression of RE2's syntax, matched in linear time on the text as it is."""

    regex: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=1024)] = pydantic.Field(
        description="Must compile, and must not match the empty text. `(?i)` in front ignores case."
    )

    @pydantic.field_validator("regex")
    @classmethod
    def _compiles(cls, value: str) -> str:
        # Only who writes a pattern pays for it.
        import re2

        options = re2.Options()
        options.log_errors = False
        try:
            compiled = re2.compile(value, options)
        except re2.error as error:
            reason = error.args[0]
            text = reason.decode() if isinstance(reason, bytes) else str(reason)
            raise PydanticCustomError(
                "bad_regex", "not a regular expression of RE2: {reason}", {"reason": text}
            ) from None
        if compiled.search("") is not None:
            raise PydanticCustomError("empty_match", "matches the empty text, so it would match everywhere")
        return value


class Rule(_Model):
    """One thing to look for in a text, and what to do when it is there."""

    name: Name = pydantic.Field(description="Shown in verdicts and metrics.")
    action: Literal["Block", "Mask", "Flag"] = pydantic.Field(
        description="Block: refuse the request or cut the answer. Mask: replace what was found. Flag: only report."
    )
    banned: Banned | None = None
    profanity: Profanity | None = None
    pattern: Pattern | None = None
    replacement: Annotated[str, pydantic.StringConstraints(max_length=64)] = pydantic.Field(
        default="[REDACTED]", description="What `Mask` puts in place of each match."
    )

    @pydantic.model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(kind is not None for kind in (self.banned, self.profanity, self.pattern)) != 1:
            raise PydanticCustomError("one_kind", "needs exactly one of `banned`, `profanity` and `pattern`")
        return self


Rules = Annotated[list[Rule], pydantic.Field(max_length=32)]


class Guardrails(_Model):
    """The endpoint's policy."""

    failure_policy: Literal["Closed", "Open"] = pydantic.Field(
        default="Closed",
        description="What a failure of the guardrail itself does: Closed ends the request, Open lets it pass.",
    )
    input: Rules = pydantic.Field(default_factory=list, description="Rules for what users send.")
    output: Rules = pydantic.Field(default_factory=list, description="Rules for what the model answers.")

    @pydantic.field_validator("input", "output")
    @classmethod
    def _unique_names(cls, rules: list[Rule]) -> list[Rule]:
        names = [rule.name for rule in rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise PydanticCustomError(
                "duplicate_rule", "rule names appear twice: {names}", {"names": ", ".join(twice)}
            )
        return rules


class Limits(_Model):
    """How much of the engine one pod gives to this endpoint."""

    max_concurrent_requests: int = pydantic.Field(
        default=256, ge=1, le=1024, description="Requests served at once."
    )
    max_queued_requests: int = pydantic.Field(
        default=512, ge=0, le=65536, description="Requests that wait; one more is refused."
    )
    request_timeout_seconds: float = pydantic.Field(
        default=300,
        gt=0,
        le=86400,
        description="From arrival to the last token; then `finish_reason: timeout`.",
    )


class Spec(_Model):
    """What the user wants."""

    pool: Name = pydantic.Field(
        description="Helm release of charts/triton, in this namespace, that serves it."
    )
    model: Model | None = pydantic.Field(
        default=None, description="Required, except by the simulated engine."
    )
    engine: Engine = pydantic.Field(default_factory=Engine)
    prompt: Prompt = pydantic.Field(default_factory=Prompt)
    sampling: Sampling = pydantic.Field(default_factory=Sampling)
    guardrails: Guardrails = pydantic.Field(
        description="Required, even if empty, so that a misspelt key can't serve unguarded."
    )
    limits: Limits = pydantic.Field(default_factory=Limits)

    @pydantic.model_validator(mode="after")
    def _weights_for_real_engines(self) -> Self:
        if self.model is None and self.engine.type != "simulated":
            raise PydanticCustomError(
                "model_missing", "`model` is required by engine type {type}", {"type": self.engine.type}
            )
        if self.model is not None and self.engine.type == "simulated":
            raise PydanticCustomError("model_unused", "`model` has no meaning for engine type simulated")
        return self

    @property
    def prompt_characters(self) -> int:
        """Most characters of a prompt that are worth reading."""
        context = self.engine.args.get("max_model_len")
        return CHARACTERS_PER_TOKEN * (context if isinstance(context, int) else ASSUMED_CONTEXT)

    @property
    def capacity(self) -> int:
        """Requests that one pod really works on at once."""
        return min(self.limits.max_concurrent_requests, self.engine.max_num_seqs)


class Metadata(_Model):
    """The part of Kubernetes' ObjectMeta that is read here; the rest is Kubernetes' own."""

    model_config = pydantic.ConfigDict(extra="ignore")

    name: Name = pydantic.Field(description="Name of the endpoint, and of the Triton model that clients ask.")
    namespace: str | None = pydantic.Field(default=None, description="Kubernetes namespace; ignored here.")

    @pydantic.field_validator("name")
    @classmethod
    def _not_a_part(cls, value: str) -> str:
        if value.endswith(("-engine", "-guardrail")):
            raise PydanticCustomError("reserved_suffix", "must not end in `-engine` or `-guardrail`")
        return value


class Resolved(_Model):
    """What the operator found out, so that every pod serves the same. No part of what the user wants."""

    commit: Commit = pydantic.Field(
        description="The commit that `spec.model.revision` was, when it was asked."
    )


class LLMEndpoint(_Model):
    """An endpoint: one model behind one policy, served by one pool."""

    api_version: Literal["tritonllm.io/v1alpha1"] = pydantic.Field(description="The version of this format.")
    kind: Literal["LLMEndpoint"] = pydantic.Field(description="What this is.")
    metadata: Metadata
    spec: Spec
    status: dict[str, Any] | None = pydantic.Field(
        default=None, exclude=True, description="Written by the operator, ignored here."
    )
    resolved: Resolved | None = pydantic.Field(
        default=None, description="Written by the operator into the file that its pods boot from."
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
        """The commit of the weights, where it is known without asking anybody."""
        model = self.spec.model
        if model is None or model.repo is None:
            return None
        if _COMMIT.fullmatch(model.revision):
            return model.revision
        return self.resolved and self.resolved.commit

    def at(self, commit: str) -> Self:
        """The same endpoint with weights of this commit."""
        return self.model_copy(update={"resolved": Resolved(commit=commit)})

    def directory(self, weights: str) -> str | None:
        """Where the engine finds the weights: `tritonllm.weights.layout` says how they are kept there.

        Args:
            weights: root of the weights volume, an absolute path.

        Returns:
            A directory; None where the engine needs none. As long as nobody knows the commit, the revision stands
            in its place.
        """
        model = self.spec.model
        if model is None:
            return None
        if model.path is not None:
            return posixpath.join(weights, model.path)
        assert model.repo is not None
        return posixpath.join(weights, model.repo.replace("/", "--"), self.commit or model.revision)
