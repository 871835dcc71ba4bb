"""Rules for personal data."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Literal

import pydantic
from pydantic_core import PydanticCustomError

from tritonllm.rules import kinds

Country = Annotated[str, pydantic.StringConstraints(min_length=2, max_length=2)]


class Pii(kinds.Kind):
    """Personal data, recognized by its form and, where there is one, its check digits."""

    types: Annotated[
        list[Literal["email", "card", "iban", "ssn", "ip", "phone", "nationalId"]],
        pydantic.Field(min_length=1, max_length=8),
    ] = pydantic.Field(
        description="Types to look for. card, iban: with valid check digits. ssn: United States, with hyphens. ip: IPv4 and "
        "IPv6. phone: with a country code, and as written in `countries`. nationalId: identifiers of persons in `countries`."
    )
    countries: Annotated[list[Country], pydantic.Field(max_length=32)] = pydantic.Field(
        default_factory=list,
        description="Countries by ISO 3166-1 code, such as DE: of national phone numbers and identifiers.",
    )

    @pydantic.model_validator(mode="after")
    def _known_countries(self) -> Pii:
        if self.countries and not {"phone", "nationalId"} & set(self.types):
            raise PydanticCustomError("unused_countries", "`countries` is for the types phone and nationalId")
        if self.countries or "nationalId" in self.types:
            # Imported here, because few endpoints have countries.
            from tritonllm.rules import national_data

            if "phone" in self.types:
                self._check("phone", national_data.PHONE_COUNTRIES)
            if "nationalId" in self.types:
                self._check("nationalId", national_data.IDENTIFIERS.keys())
                if not self.countries:
                    raise PydanticCustomError("no_countries", "`nationalId` requires `countries`")
        return self

    def _check(self, kind: str, known: Collection[str]) -> None:
        unknown = [country for country in self.countries if country not in known]
        if unknown:
            raise PydanticCustomError(
                "unknown_country",
                "`{kind}` does not know {unknown}; it knows {known}",
                {"kind": kind, "unknown": ", ".join(unknown), "known": ", ".join(sorted(known))},
            )

    def searches(self) -> Iterator[kinds.Search]:
        """See `kinds.Kind`."""
        from tritonllm.rules import data_types

        for name in dict.fromkeys(self.types):
            if name in data_types.PERSONAL:
                yield data_types.PERSONAL[name]
                continue
            from tritonllm.rules import national_data

            if name == "phone":
                yield national_data.phone(self.countries)
            else:
                yield from national_data.identifiers(self.countries)
