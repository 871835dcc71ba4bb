"""Writes what Presidio's recognizers find in some texts, as the reference for `pii` rules.

Presidio brings spaCy and is not in the lock. In an environment of its own, with `presidio-analyzer` 2.2.366:
`python tools/presidio_reference.py` writes tritonllm/tests/unit/guardrails/presidio.json, which a test compares with
what the rules find.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from presidio_analyzer import predefined_recognizers as known  # pyright: ignore[reportMissingImports]

FILE = Path(__file__).parents[1] / "tritonllm/tests/unit/guardrails/presidio.json"
RECOGNIZERS = {
    "email": (known.EmailRecognizer(), "EMAIL_ADDRESS"),
    "card": (known.CreditCardRecognizer(), "CREDIT_CARD"),
    "iban": (known.IbanRecognizer(), "IBAN_CODE"),
    "ssn": (known.UsSsnRecognizer(), "US_SSN"),
    "ip": (known.IpRecognizer(), "IP_ADDRESS"),
}
# Numbers that banks and networks publish for tests, and the examples of the IBAN registry.
CARDS = [
    "4111111111111111", "4012888888881881", "4222222222222", "5555555555554444", "5105105105105100", "378282246310005",
    "371449635398431", "6011111111111117", "6011000990139424", "30569309025904", "38520000023237", "3530111333300000",
    "4111111111111112", "5555555555554445", "1234567812345678",
]  # fmt: skip
IBANS = [
    "GB29NWBK60161331926819", "DE89370400440532013000", "FR1420041010050500013M02606", "NL91ABNA0417164300",
    "ES9121000418450200051332", "IT60X0542811101000000123456", "CH9300762011623852957", "AT611904300234573201",
    "BE68539007547034", "PL61109010140000071219812874", "SE4550000000058398257466", "NO9386011117947",
    "DK5000400440116243", "FI2112345600000785", "PT50000201231234567890154", "IE29AIBK93115212345678",
    "LU280019400644750000", "GR1601101250000000012300695", "TR330006100519786457841326", "SA0380000000608010167519",
    "DE89370400440532013001", "GB29NWBK60161331926818", "XX89370400440532013000",
]  # fmt: skip
EMAILS = [
    "ann@example.com", "ann.lee+news@mail.example.co.uk", "ANN@EXAMPLE.ORG", "a_b-c@sub.domain.example.net",
    "x@example.museum", "ann@example", "@example.com", "ann at example.com", "ann@@example.com", "1@example.com",
]  # fmt: skip
SSNS = [
    "536-90-4399",
    "219-09-9998",
    "536 90 4399",
    "000-12-3456",
    "666-12-3456",
    "900-12-3456",
    "123-00-4567",
]
IPS = [
    "192.168.1.10", "8.8.8.8", "255.255.255.255", "256.1.1.1", "1.2.3", "2001:db8::1", "fe80::1ff:fe23:4567:890a",
    "2001:0db8:85a3:0000:0000:8a2e:0370:7334", "12:30:45", "1.2.3.4.5",
]  # fmt: skip
AROUND = ["{}", "It is {}, and no more.", "({})", "\u201c{}\u201d \u2014 \u65e5\u672c"]


def texts() -> Iterator[str]:
    """Each example by itself and in a sentence, and numbers also in groups."""
    grouped = [" ".join(text[i : i + 4] for i in range(0, len(text), 4)) for text in (*CARDS[:9], *IBANS)]
    dashed = ["-".join(text[i : i + 4] for i in range(0, 16, 4)) for text in CARDS if len(text) == 16]
    for example in (*CARDS, *IBANS, *EMAILS, *SSNS, *IPS, *grouped, *dashed):
        for around in AROUND:
            yield around.format(example)


def found(text: str) -> dict[str, list[str]]:
    """What of a text is found, by type."""
    results = {
        kind: sorted({text[each.start : each.end] for each in recognizer.analyze(text, [entity], None) or ()})
        for kind, (recognizer, entity) in RECOGNIZERS.items()
    }
    return {kind: parts for kind, parts in results.items() if parts}


if __name__ == "__main__":
    entries = [{"text": text, "found": found(text)} for text in dict.fromkeys(texts())]
    FILE.write_text("\n".join(["[", ",\n".join(map(json.dumps, entries)), "]"]) + "\n")
    print(f"wrote {len(entries)} texts")
