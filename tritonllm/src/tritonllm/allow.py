"""What a pool's owner permits endpoint authors to use: code, pickle files, repositories, engine arguments, upstreams.

The operator asks before it accepts an endpoint, and `serve --allow` again in the pod. docs/security.md says what each
permission gives away. Pure, but for `load`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import pydantic
import pydantic.alias_generators

from tritonllm import api, engines, validation_errors
from tritonllm.engines import openai, vllm_permissions

Problem = tuple[str, str]
"""The path of a field, such as `spec.model.trustRemoteCode`, and what is wrong with it."""

REPO_PATTERN = r"^(\*|[\w.-]+/(\*|[\w.-]+))(@\S+)?$"
"""An entry of `repos`: `*`, `organisation/*` or `organisation/name`, and optionally `@` and a revision."""

UPSTREAM_PATTERN = r"^(\*|https?://[^\s/@?#]+(/[^\s@?#]*)?)$"
"""The `url` of an entry of `upstreams`."""

UPSTREAM_KEY_PATTERN = rf"^(\*|{openai.KEY_NAME})$"
"""An entry of its `apiKeys`."""


_CONFIG = pydantic.ConfigDict(
    extra="forbid",
    frozen=True,
    strict=True,
    populate_by_name=True,
    alias_generator=pydantic.alias_generators.to_camel,
)


class Upstream(pydantic.BaseModel):
    """A server that endpoints can send requests to. With its keys, because who names the server receives the key.

    Attributes:
        url: base URL of its API, as endpoints have it in `engine.args.url`, or `*`.
        api_keys: names of the API keys that it can be sent; `*` for all.
    """

    model_config = _CONFIG

    url: Annotated[str, pydantic.Field(pattern=UPSTREAM_PATTERN)]
    api_keys: list[Annotated[str, pydantic.Field(pattern=UPSTREAM_KEY_PATTERN)]] = []

    def permits(self, upstream: engines.Upstream) -> bool:
        """Whether requests can be sent there, with this key."""
        key = upstream.api_key_name
        return self.url.rstrip("/") in ("*", upstream.url) and (
            key is None or key in self.api_keys or "*" in self.api_keys
        )


class Allow(pydantic.BaseModel):
    """The permissions of a pool. Without values, nothing is permitted.

    Attributes:
        remote_code: whether endpoints can set `spec.model.trustRemoteCode`.
        pickle: whether endpoints can set `spec.model.allowPickle`.
        repos: repositories of the Hub; see `REPO_PATTERN`.
        engine_args: engine arguments beyond `vllm_permissions.PERMITTED`, or `*`.
        upstreams: servers that endpoints can send requests to.
    """

    model_config = _CONFIG

    remote_code: bool = False
    pickle: bool = False
    repos: list[Annotated[str, pydantic.Field(pattern=REPO_PATTERN)]] = []
    engine_args: list[str] = []
    upstreams: list[Upstream] = []


class Invalid(ValueError):
    """The permissions cannot be read; the text says where they are wrong."""


NOTHING = Allow()
EVERYTHING = Allow(
    remote_code=True,
    pickle=True,
    repos=["*"],
    engine_args=[vllm_permissions.EVERYTHING],
    upstreams=[Upstream(url="*", api_keys=["*"])],
)
"""For endpoint authors who own the server."""


def parse(text: str) -> Allow:
    """Reads permissions from JSON.

    Raises:
        Invalid: they are not as `Allow` says.
    """
    try:
        return Allow.model_validate_json(text)
    except pydantic.ValidationError as error:
        found = validation_errors.problems(error, Allow)
        raise Invalid("; ".join(": ".join(filter(None, problem)) for problem in found)) from None


def load(file: Path | None) -> Allow:
    """Reads permissions from a file with JSON.

    Args:
        file: its path; None permits everything.

    Raises:
        Invalid: the file cannot be read, or is not as `Allow` says.
    """
    if file is None:
        return EVERYTHING
    try:
        return parse(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{file}: cannot be read: {error}") from None
    except Invalid as error:
        raise Invalid(f"{file}: {error}") from None


def problems(endpoint: api.LLMEndpoint, allow: Allow) -> list[Problem]:
    """What an endpoint uses and the pool does not permit.

    Args:
        endpoint: a valid one.
        allow: the permissions of its pool.
    """
    found: list[Problem] = []
    model, engine = endpoint.spec.model, endpoint.spec.engine
    if model is not None:
        if model.trust_remote_code and not allow.remote_code:
            what = "the pool does not permit code from repositories"
            found.append(("spec.model.trustRemoteCode", f"{what}; its owner can set allow.remoteCode: true"))
        if model.allow_pickle and not allow.pickle:
            what = "the pool does not permit pickle files, which can run code"
            found.append(("spec.model.allowPickle", f"{what}; its owner can set allow.pickle: true"))
        if model.repo is not None and not any(_matches(entry, model) for entry in allow.repos):
            what = f"the pool does not permit the repository {model.repo} at {model.revision}"
            found.append(("spec.model.repo", f"{what}; its owner can add it to allow.repos"))
    for index, adapter in enumerate(endpoint.spec.adapters):
        if adapter.repo is not None and not any(_matches(entry, adapter) for entry in allow.repos):
            what = f"the pool does not permit the repository {adapter.repo} at {adapter.revision}"
            found.append((f"spec.adapters[{index}].repo", f"{what}; its owner can add it to allow.repos"))
    for name, value in engine.args.items():
        if what := engine.definition.needs_permission(name, value, allow.engine_args):
            message = f"the pool does not permit {what}; its owner can add {name} to allow.engineArgs"
            found.append((f"spec.engine.args.{name}", message))
    upstream = engine.definition.upstream(engine.args)
    if upstream is not None and not any(entry.permits(upstream) for entry in allow.upstreams):
        key = "no API key" if upstream.api_key_name is None else f"the API key {upstream.api_key_name}"
        what = f"the pool does not permit the upstream {upstream.url} with {key}"
        found.append(("spec.engine.args.url", f"{what}; its owner can add both to allow.upstreams"))
    return found


def _matches(entry: str, model: api.Model | api.Adapter) -> bool:
    pattern, _, revision = entry.partition("@")
    if revision and revision != model.revision:
        return False
    expression = re.escape(pattern).replace(r"\*", ".*")
    return re.fullmatch(expression, model.repo or "") is not None
