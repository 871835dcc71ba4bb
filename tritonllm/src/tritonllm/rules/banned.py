"""Rules with phrases of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

import pydantic
from pydantic_core import PydanticCustomError

from tritonllm import schema
from tritonllm.rules import kinds

# As many as three revisions of a pool's endpoints have room for in a ConfigMap, at 30 characters each.
MAX_PHRASES = 10_000

NO_PHRASES = "`phrases` or `configMapRef` is required"

# https://kubernetes.io/docs/concepts/configuration/configmap/: a DNS subdomain, and keys as long.
_ConfigMapName = Annotated[str, pydantic.StringConstraints(min_length=1, max_length=253)]


class ConfigMapRef(schema.Model):
    """A key of a ConfigMap in the namespace of the endpoint."""

    name: _ConfigMapName = pydantic.Field(
        description="Name of the ConfigMap. It needs the labels `app.kubernetes.io/component: phrases` and"
        " `tritonllm.io/pool` with the pool's name, or with an empty value for all pools."
    )
    key: _ConfigMapName = pydantic.Field(
        description="Key in its `data`: one phrase per line; empty lines and lines that start with `#` are ignored."
    )


class Banned(kinds.Kind):
    """Phrases, matched regardless of case, width, accents, look-alike letters, leet and spacing."""

    phrases: list[kinds.Phrase] = pydantic.Field(
        default_factory=list,
        min_length=1,
        max_length=MAX_PHRASES,
        description="The phrases to match. Required without `configMapRef`.",
    )
    config_map_ref: ConfigMapRef | None = pydantic.Field(
        default=None, description="A list of further phrases in a ConfigMap."
    )
    match: Literal["Word", "Substring"] = pydantic.Field(
        default="Word", description="Word: only between word boundaries. Substring: also inside words."
    )

    accents: Literal["Ignore", "Match"] = pydantic.Field(
        default="Ignore",
        description="Ignore: accents may be left out or added, so that `año` is also `ano`. Match: a phrase is found only with its own.",
    )

    @pydantic.model_validator(mode="after")
    def _some_phrases(self) -> Self:
        if not self.phrases and self.config_map_ref is None:
            raise PydanticCustomError("no_phrases", NO_PHRASES)
        return self

    def searches(self) -> Iterator[kinds.Search]:
        """See `kinds.Kind`."""
        yield kinds.Phrases(self.phrases, words=self.match == "Word", accents=self.accents == "Match")
