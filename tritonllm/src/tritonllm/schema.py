"""What all models of an endpoint's schema have in common: they are strict and immutable, and have names."""

from __future__ import annotations

from typing import Annotated

import pydantic
from pydantic.alias_generators import to_camel

Name = Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?$")]


class Model(pydantic.BaseModel):
    """Strict and immutable; camelCase in files, snake_case in Python."""

    model_config = pydantic.ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=to_camel,
        validate_by_alias=True,
        serialize_by_alias=True,
    )
