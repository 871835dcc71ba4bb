"""Rules for personal data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import pydantic

from tritonllm.rules import kinds


class Pii(kinds.Kind):
    """Personal data, recognized by its form and, where there is one, its check digits."""

    types: Annotated[
        list[Literal["email", "card", "iban", "ssn", "ip"]], pydantic.Field(min_length=1, max_length=8)
    ] = pydantic.Field(
        description="Types to look for. card, iban: with valid check digits. ssn: United States, with hyphens. ip: IPv4 and IPv6."
    )

    def searches(self) -> Iterator[kinds.Search]:
        """See `kinds.Kind`."""
        from tritonllm.rules import data_types

        for name in dict.fromkeys(self.types):
            yield data_types.PERSONAL[name]
