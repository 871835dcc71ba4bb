"""What all models of an endpoint's schema have in common: they are strict and immutable, and have names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pydantic
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

Name = Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?$")]


class Model(pydantic.BaseModel):
    """Strict and immutable; camelCase in files, snake_case in Python."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel)

    def given(self) -> dict[str, Any]:
        """This part as in a file, as JSON, without fields that have their default value.

        So an explicit default does not change a hash, and a new field in a later version does not change the hash of
        existing specs. The aliases are asked for here: older releases of pydantic don't know a setting for that, and
        ignore it.
        """
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def require_unique_names(kind: Literal["rule", "adapter"], names: Sequence[str]) -> None:
    """Checks that no name is given twice.

    Args:
        kind: what has the names.
        names: of all.

    Raises:
        PydanticCustomError: some are, and which.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PydanticCustomError(
            f"duplicate_{kind}", f"duplicate {kind} names: {{names}}", {"names": ", ".join(twice)}
        )
