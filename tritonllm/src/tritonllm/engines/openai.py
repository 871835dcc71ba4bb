"""Engine type `openai`: a server with OpenAI's API, to which the endpoint's requests are sent."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import pydantic
from pydantic_core import PydanticCustomError

from tritonllm.engines.base import DEFAULT_MAX_NUM_SEQS, Args, Arguments, EngineType, Problem, Upstream

KEY_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
"""The pattern of the name of an API key; an entry of a Secret can have it."""

# How the keys of most providers begin.
_LIKE_A_KEY = re.compile(r"^(sk|pk|gsk|nvapi|xai|hf)[-_]")

# Names that only the DNS of a cluster or a private network resolves.
_PRIVATE_SUFFIXES = (".cluster.local", ".internal", ".local", ".localhost", ".svc")


def _base_url(value: str) -> str:
    """Checks the URL of an upstream. The messages do not quote it, because it can contain a key."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", value):
        raise PydanticCustomError(
            "upstream_url", "must be the base URL of an OpenAI API, such as https://api.example.com/v1"
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise PydanticCustomError(
            "upstream_url_secret",
            "must have no user, password, query or fragment: an endpoint is no place for secrets; use `api_key_name`",
        )
    return value.rstrip("/")


def _key_name(value: str) -> str:
    """Checks the name of an API key. The messages do not quote it, because it can be the key."""
    if _LIKE_A_KEY.match(value) or not re.fullmatch(KEY_NAME, value):
        raise PydanticCustomError(
            "upstream_key_name",
            "must be the name of a file with the key (at most 63 letters, digits, `.`, `_` and `-`), not the key itself",
        )
    return value


class OpenAIArgs(Arguments):
    """`spec.engine.args` of engine type `openai`."""

    url: Annotated[str, pydantic.AfterValidator(_base_url)] = pydantic.Field(
        description="Base URL of the API, such as `https://api.example.com/v1`. Requests are sent to `/chat/completions` and"
        " `/completions` below it.",
    )
    model: str = pydantic.Field(
        min_length=1, max_length=256, description="Name of the model there, which requests are sent with."
    )
    api_key_name: Annotated[str, pydantic.AfterValidator(_key_name)] | None = pydantic.Field(
        default=None,
        description="Name of the API key: that of its file in the directory of `tritonllm serve --upstream-keys`, which on"
        " Kubernetes is an entry of the Secret `upstreams.apiKeysSecret` of the pool. Without it, no key is sent.",
    )
    api: Literal["openai", "vllm"] = pydantic.Field(
        default="openai",
        description="What requests can contain. openai: the parameters of OpenAI's API. vllm: also the further ones of vLLM's"
        " server.",
    )
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = pydantic.Field(
        default="max_tokens",
        description="Field of chat completions with the maximum number of tokens. OpenAI's reasoning models take"
        " `max_completion_tokens` only.",
    )
    allow_http: bool = pydantic.Field(
        default=False,
        description="Permit `http://` to a host outside of the cluster. Prompts and the key cross the network in clear.",
    )
    idle_timeout_seconds: float = pydantic.Field(
        default=120,
        gt=0,
        le=3600,
        description="Maximum time in which the server sends nothing; then the request fails.",
    )
    max_num_seqs: int = pydantic.Field(
        default=DEFAULT_MAX_NUM_SEQS,
        ge=1,
        description="Maximum number of requests that each pod sends at once.",
    )
    max_model_len: int | None = pydantic.Field(
        default=None,
        ge=1,
        description="Maximum number of tokens of prompt and answer together, for `GET /v1/models` and the maximum length of"
        " prompts; without a tokenizer, only the server itself counts them.",
    )


class OpenAI(EngineType):
    """See the module."""

    name = "openai"
    description = "`openai` sends requests to a server with OpenAI's API."
    label = "an upstream"
    needs_weights = False
    backend = "tritonllm.runtime.openai_engine:OpenAIBackend"
    arguments = OpenAIArgs

    def check(
        self, args: Args, *, trust_remote_code: bool = False, vllm_version: str | None = None
    ) -> list[Problem]:
        """See `EngineType.check`."""
        found = super().check(args)
        if not found and not args.get("allow_http") and _is_sent_in_clear(args["url"]):
            message = "http:// to a host outside of the cluster sends prompts and the key in clear; use https://, or set"
            found.append(("spec.engine.args.url", f"{message} `allow_http: true`"))
        return found

    def upstream(self, args: Args) -> Upstream | None:
        """See `EngineType.upstream`."""
        given = OpenAIArgs.model_validate(args)
        return Upstream(given.url, given.api_key_name)

    def hashed(self, args: Args) -> dict[str, Any]:
        """See `EngineType.hashed`: what differs from the defaults."""
        return OpenAIArgs.model_validate(args).model_dump(mode="json", exclude_defaults=True)


def _is_sent_in_clear(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" or ("." not in host and ":" not in host) or host.endswith(_PRIVATE_SUFFIXES):
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ".svc." not in host
    return not address.is_private


OPENAI = OpenAI()
