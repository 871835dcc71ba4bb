"""Personal data whose form depends on the country: phone numbers, by phonenumbers, and identifiers, by python-stdnum."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence

import phonenumbers

from tritonllm.rules import kinds

# The numbers of the ITU's plan have 15 digits at most (E.164); with a prefix and signs between them, they are longer.
_PHONE = r"(?:\+|\b00|\(|\b)[0-9](?:[ ().\-/\x{A0}]{0,3}[0-9]){5,16}\b"
_INTERNATIONAL = r"(?:\+|\b00)[1-9](?:[ ().\-/\x{A0}]{0,3}[0-9]){5,16}\b"
# phonenumbers needs about half a millisecond for a country, see `kinds.Data.cost`.
_MATCHER_COST = 60

# By country: the module of python-stdnum that checks an identifier, and how it is written.
IDENTIFIERS: dict[str, list[tuple[str, str]]] = {
    "AU": [("au.tfn", r"\b[0-9]{3} ?[0-9]{3} ?[0-9]{3}\b")],
    "BE": [("be.nn", r"\b[0-9]{2}\.?[0-9]{2}\.?[0-9]{2}-?[0-9]{3}\.?[0-9]{2}\b")],
    "BR": [("br.cpf", r"\b[0-9]{3}\.?[0-9]{3}\.?[0-9]{3}-?[0-9]{2}\b")],
    "CA": [("ca.sin", r"\b[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{3}\b")],
    "CH": [("ch.ssn", r"\b756\.?[0-9]{4}\.?[0-9]{4}\.?[0-9]{2}\b")],
    "DE": [("de.idnr", r"\b[0-9]{2} ?[0-9]{3} ?[0-9]{3} ?[0-9]{3}\b")],
    "ES": [("es.dni", r"\b[0-9]{8}-?[A-Za-z]\b"), ("es.nie", r"\b[XYZxyz]-?[0-9]{7}-?[A-Za-z]\b")],
    "FI": [("fi.hetu", r"\b[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-Y]\b")],
    "FR": [("fr.nir", r"\b[12] ?[0-9]{2} ?[0-9]{2} ?[0-9][0-9AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}\b")],
    "GB": [("gb.nhs", r"\b[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{4}\b")],
    "IT": [("it.codicefiscale", r"\b[A-Za-z]{6}[0-9]{2}[A-Za-z][0-9]{2}[A-Za-z][0-9]{3}[A-Za-z]\b")],
    "NL": [("nl.bsn", r"\b[0-9]{9}\b")],
    "PL": [("pl.pesel", r"\b[0-9]{11}\b")],
    "SE": [("se.personnummer", r"\b(?:[0-9]{2})?[0-9]{6}[-+]?[0-9]{4}\b")],
    "US": [("us.ssn", r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b"), ("us.itin", r"\b9[0-9]{2}-[0-9]{2}-[0-9]{4}\b")],
}

PHONE_COUNTRIES = frozenset(phonenumbers.SUPPORTED_REGIONS)


def phone(countries: Sequence[str]) -> kinds.Data:
    """Phone numbers with a country code, and those of some countries as they are written there.

    Args:
        countries: by ISO 3166-1 alpha-2 code.
    """
    regex = _PHONE if countries else _INTERNATIONAL
    return kinds.Data(
        "[PHONE]",
        regex,
        functools.partial(_longest_number, tuple(countries)),
        _MATCHER_COST * max(1, len(countries)),
    )


def identifiers(countries: Sequence[str]) -> list[kinds.Data]:
    """The identifiers of persons of some countries.

    Args:
        countries: of `IDENTIFIERS`.
    """
    return [
        kinds.Data("[ID]", regex, functools.partial(_whole_identifier, module))
        for country in countries
        for module, regex in IDENTIFIERS[country]
    ]


def _longest_number(countries: tuple[str, ...], text: str) -> int:
    """The length of the phone number at the beginning; another number may follow it."""
    if text.startswith("00"):
        length = _longest_number(countries, f"+{text[2:]}")
        return length + 1 if length else 0
    international = text.startswith("+")
    # Without a country code, only the grouping tells a phone number from a date.
    leniency = phonenumbers.Leniency.VALID if international else phonenumbers.Leniency.STRICT_GROUPING
    ends = [
        match.end
        for country in ((None,) if international else countries)
        for match in phonenumbers.PhoneNumberMatcher(text, country, leniency=leniency)
        if match.start == 0
    ]
    return max(ends, default=0)


def _whole_identifier(module: str, text: str) -> int:
    return len(text) if importlib.import_module(f"stdnum.{module}").is_valid(text) else 0
