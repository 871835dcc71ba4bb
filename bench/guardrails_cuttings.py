"""The invariant of the guardrails, on many random texts: however a text is cut, the same leaves.

python bench/guardrails_cuttings.py [SECONDS]

Policies and texts are made of the pieces of tritonllm/tests/property/test_guardrails.py, which runs a small number of such
cases with every change.
"""

from __future__ import annotations

import pathlib
import random
import sys
import time

from tritonllm import api, guardrails

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tritonllm" / "tests" / "property"))

import test_guardrails as cases  # pyright: ignore[reportMissingImports]

KINDS = [
    {"pii": {"types": ["email", "card", "iban", "ssn", "ip"]}},
    {"pii": {"types": ["phone", "nationalId"], "countries": ["DE", "US"]}},
    {"secrets": {}},
    {"profanity": {"languages": ["en", "de", "ru", "th"]}},
]


def policy(chance: random.Random) -> guardrails.Policy:
    """One to four rules of any kinds."""
    rules: list[api.Rule] = []
    for number in range(chance.randint(1, 4)):
        kind = chance.choice(
            [
                {
                    "banned": {
                        "phrases": chance.sample(cases.PHRASES, 4),
                        "match": chance.choice(["Word", "Substring"]),
                        "accents": chance.choice(["Ignore", "Match"]),
                    }
                },
                {"pattern": {"regex": chance.choice(cases.REGEXES)}},
                chance.choice(KINDS),
            ]
        )
        rules.append(cases.rule(number, chance.choice(["Mask", "Flag", "Block"]), kind))
    return guardrails.compile(rules)


def main(limit: float) -> None:
    """Cuts texts until the time is over; ends with an error at the first one that is judged otherwise in pieces."""
    seed = int(time.time())
    chance = random.Random(seed)
    started, cuttings, texts = time.monotonic(), 0, 0
    while time.monotonic() - started < limit:
        judging = policy(chance)
        for _ in range(50):
            text = "".join(chance.choices(cases.PIECES, k=chance.randint(1, 25)))
            whole = judging.scan(text)
            texts += 1
            for _ in range(10):
                cuts = [chance.randint(0, len(text)) for _ in range(chance.randint(1, 12))]
                if cases.in_pieces(judging, cases.cut(text, cuts))[0] != whole:
                    raise SystemExit(
                        f"seed {seed}: {text!r} cut at {sorted(cuts)} is judged otherwise: {judging.rules}"
                    )
                cuttings += 1
    print(f"seed {seed}: {cuttings:,} cuttings of {texts:,} texts, all judged as the whole text")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 600)
