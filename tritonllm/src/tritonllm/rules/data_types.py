"""Personal data and secrets by type: the pattern that proposes each, and the check that confirms it."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
from collections.abc import Callable

from stdnum import iban, luhn

from tritonllm.rules import kinds


def _if_valid(check: Callable[[str], bool]) -> Callable[[str], int]:
    """All of a text if a check confirms it."""
    return lambda text: len(text) if check(text) else 0


def is_card(text: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    return luhn.is_valid("".join(filter(str.isdigit, text)))


def is_iban(text: str) -> bool:
    """Whether the check digits are right and the length and parts are those of the country (ISO 13616).

    Lists of banks are not asked: they lag behind.
    """
    return iban.is_valid(text, check_country=False)


def is_ip(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_ssn(text: str) -> bool:
    """Whether the United States could have issued the number: no area 000, 666 or 9xx, no group 00, no serial 0000."""
    area, group, serial = text.split("-")
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def is_jwt(text: str) -> bool:
    """Whether the first part is the header of a JSON Web Token (RFC 7515, section 4): JSON with `alg`."""
    header = text.split(".")[0]
    try:
        decoded = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return False
    return isinstance(decoded, dict) and "alg" in decoded


PERSONAL = {
    "email": kinds.Data(
        "[EMAIL]",
        r"[\p{L}\p{N}\p{M}._%+'-]{1,64}@(?:[\p{L}\p{N}\p{M}-]{1,63}\.){1,8}[\p{L}\p{M}]{2,63}",
    ),
    # Issuers' first digits and the groups that they are written in.
    "card": kinds.Data(
        "[CARD]",
        r"\b(?:[2-6][0-9]{3}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}|3[47][0-9]{2}[ -]?[0-9]{6}[ -]?[0-9]{5}"
        r"|3[47][0-9]{2}(?:[ -][0-9]{4}){2}[ -][0-9]{3}|[2-6][0-9]{12,18})\b",
        _if_valid(is_card),
    ),
    # The longest IBAN has 34 characters (ISO 13616); the shortest in use has 15, of Norway.
    "iban": kinds.Data(
        "[IBAN]",
        r"\b(?:[A-Za-z]{2}[0-9]{2}(?:[A-Za-z0-9]{11,30}|(?: [A-Za-z0-9]{4}){2,7}(?: [A-Za-z0-9]{1,4})?))\b",
        _if_valid(is_iban),
    ),
    "ssn": kinds.Data("[SSN]", r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b", _if_valid(is_ssn)),
    "ip": kinds.Data(
        "[IP]",
        r"\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b|\b[0-9A-Fa-f]{1,4}(?:::?[0-9A-Fa-f]{1,4}){2,7}\b",
        _if_valid(is_ip),
    ),
}

SECRETS = {
    "key": kinds.Data(
        "[SECRET]",
        r"\b(?:(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS
        r"|gh[pousr]_[A-Za-z0-9]{36,255}"  # GitHub
        r"|github_pat_[A-Za-z0-9_]{22,255}"
        r"|glpat-[A-Za-z0-9_-]{20,255}"  # GitLab
        r"|xox[abeoprs]-[A-Za-z0-9-]{10,255}"  # Slack
        r"|hf_[A-Za-z0-9]{30,255}"  # Hugging Face
        r"|AIza[A-Za-z0-9_-]{35}"  # Google
        r"|sk-[A-Za-z0-9_-]{20,255})",  # OpenAI and others
    ),
    "jwt": kinds.Data(
        "[SECRET]",
        r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*",
        _if_valid(is_jwt),
    ),
    # Without its last line it is a secret still.
    "private-key": kinds.Data(
        "[SECRET]",
        r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----(?:\s*(?:Proc-Type|DEK-Info):[^\n]*)*[A-Za-z0-9+/=\s\\]*"
        r"(?:-----END [A-Z ]{0,32}PRIVATE KEY-----)?",
    ),
}
