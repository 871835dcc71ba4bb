"""What guardrails cost: whole texts beside better_profanity, and streamed text by the piece.

python bench/guardrails.py [CHARACTERS]

The last table is about texts of so many characters, by default a million.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import pathlib
import pydoc_data.topics
import random
import re
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import better_profanity

from tritonllm import api, guardrails

# As a byte-pair tokenizer cuts English: a word is a token together with the space before it.
_TOKENS = re.compile(r" ?[A-Za-z']+| ?\d{1,3}| ?[^\sA-Za-z\d]+|\s+")
LANGUAGE = {"name": "language", "profanity": {}, "action": "Mask"}
CARDS = {"name": "cards", "pattern": {"regex": r"(?:\d[ -]?){13,16}"}, "action": "Mask"}


def prose(size: int) -> str:
    """English sentences out of Python's own documentation."""
    text = " ".join(" ".join(pydoc_data.topics.topics.values()).split())
    return " ".join(re.findall(r"[A-Z][a-z]+(?:,? (?:a|I|[a-z'-]{2,})){4,}[.:]", text))[:size]


def compiled(*rules: dict[str, Any]) -> guardrails.Policy:
    """A policy of rules as they stand in an endpoint file."""
    return guardrails.compile([api.Rule.model_validate(rule) for rule in rules])


def banned(count: int) -> list[dict[str, Any]]:
    """Rules with phrases of one to three invented words, 1,000 phrases per rule at most."""
    seeded = random.Random(count)

    def word() -> str:
        return "".join(seeded.choice(("bdfgklmnprstvz", "aeiou")[place % 2]) for place in range(6))

    phrases = [" ".join(word() for _ in range(1 + number % 3)) for number in range(count)]
    return [
        {"name": f"banned-{start}", "banned": {"phrases": phrases[start : start + 1000]}, "action": "Mask"}
        for start in range(0, count, 1000)
    ]


def seconds(work: Callable[[], object], rounds: int) -> float:
    """The least processor time that a piece of work took: what others on the machine add is left out."""
    spent: list[float] = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return min(spent)


def stream(policy: guardrails.Policy, pieces: list[str]) -> None:
    """Feeds a text as an engine would."""
    stream = policy.stream()
    for piece in pieces:
        stream.feed(piece)
    stream.finish()


def in_tokens(text: str, count: int) -> list[str]:
    """A text in pieces of so many tokens."""
    tokens = _TOKENS.findall(text)
    return ["".join(tokens[start : start + count]) for start in range(0, len(tokens), count)]


def noise(count: int) -> list[str]:
    """Pieces as a model with random weights writes them: parts of words, digits, signs, and characters cut in half."""
    seeded = random.Random(count)
    words = prose(4096).split()

    def piece() -> str:
        word = seeded.choice(words)
        start = seeded.randrange(len(word))
        part = word[start : start + seeded.randint(1, 5)]
        return seeded.choice((part, f" {part}", chr(seeded.randint(0x20, 0x7E)), seeded.choice("\ufffdéß\n")))

    return [piece() for _ in range(count)]


def whole_texts() -> None:
    """Prints microseconds per KB, beside better_profanity on the same text."""
    ours = compiled(LANGUAGE)
    theirs = better_profanity.Profanity()
    print("| text | whole, µs per KB | better_profanity, µs per KB | times faster |")
    print("|---|---|---|---|")
    for size in (100, 1024, 10_240, 102_400):
        text = prose(size)
        kilobytes = len(text) / 1024
        whole = seconds(lambda text=text: ours.scan(text), max(5, 2_000_000 // size)) / kilobytes
        # It is linear in the text, and takes a second per 5 KB: it is not measured on the longest.
        rounds = 3 if size <= 1024 else 1
        slow = seconds(lambda text=text: theirs.censor(text), rounds) / kilobytes if size <= 10_240 else 0.0
        shown = (f"{slow * 1e6:,.0f}", f"{slow / whole:,.0f}") if slow else ("", "")
        print(f"| {size:,} B | {whole * 1e6:.1f} | {shown[0]} | {shown[1]} |")


def policies() -> None:
    """Prints what policies of many phrases cost: to build, to hold, for a whole text and for a streamed piece."""
    text = prose(1_000_000)
    print("| phrases | built in, s | memory, MB | whole, MB/s | 1 token, µs | 4 tokens, µs |")
    print("|---|---|---|---|---|---|")
    for count in (100, 10_000, 100_000):
        rules = [api.Rule.model_validate(rule) for rule in banned(count)]
        before, started = _resident(), time.process_time()
        policy = guardrails.compile(rules)
        built, held = time.process_time() - started, _resident() - before
        whole = len(text) / seconds(lambda policy=policy: policy.scan(text), 20) / 1e6
        cells = [
            f"{seconds(lambda cut=cut, policy=policy: stream(policy, cut), 10) / len(cut) * 1e6:.1f}"
            for cut in (in_tokens(text[:16_384], tokens) for tokens in (1, 4))
        ]
        print(f"| {count:,} | {built:.2f} | {max(0.0, held):.0f} | {whole:.0f} | {' | '.join(cells)} |")


def _resident() -> float:
    """Megabytes of this process in memory."""
    pages = int(pathlib.Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def others() -> None:
    """Prints megabytes per second of other filters that are installed, with the list of each; and ours."""
    text = prose(10_240)
    ours, theirs = compiled(LANGUAGE), better_profanity.Profanity()
    checks: dict[str, Callable[[], object]] = {
        "tritonllm": lambda: ours.scan(text),
        "better_profanity 0.7.0": lambda: theirs.censor(text),
    }
    # They are not in the lock: `uv pip install better-profanity-rs alt-profanity-check` in a copy of the environment.
    with contextlib.suppress(ImportError):
        import better_profanity_rs  # pyright: ignore[reportMissingImports]

        checks["better-profanity-rs"] = lambda: better_profanity_rs.profanity.censor(text)
    with contextlib.suppress(ImportError):
        import profanity_check  # pyright: ignore[reportMissingImports]

        checks["alt-profanity-check"] = lambda: profanity_check.predict([text])
    print("| filter | 10 KB of prose, MB/s |")
    print("|---|---|")
    for name, check in checks.items():
        print(f"| {name} | {len(text) / seconds(check, 3) / 1e6:.3g} |")


FLOODS = {
    "prose": "the text is plain ", "one letter": "a", "letters by themselves": "a ", "signs": "@*", "stars": "a*", "emoji": "a🔥", "HTML": "<b>",
    "links": "[a](http://x", "entities": "&#97;", "hidden letters": "\U000e0061", "zero-width": "s\u200b", "kashida": "ك\u0640",
    "Cyrillic": "сосо хрен ", "Chinese": "法轮", "digits": "4s", "numbers": "030 901820 ", "what is found": "ass ",
}  # fmt: skip


def worst(size: int) -> None:
    """Prints the longest step and the time for a long text of nothing but one disguise."""
    kinds = {
        "profanity": compiled(LANGUAGE),
        "substrings": compiled(
            {
                "name": "a",
                "action": "Mask",
                "banned": {"phrases": ["ass", "aa", "plan b", "falcon"], "match": "Substring"},
            }
        ),
        "pattern": compiled({"name": "a", "action": "Mask", "pattern": {"regex": r"\b[\w.+-]+@[\w.-]+\b"}}),
        "personal data": compiled(
            {"name": "a", "action": "Mask", "pii": {"types": ["email", "card", "iban", "ip"]}},
            {"name": "b", "action": "Mask", "secrets": {}},
        ),
    }
    # As the pipeline and the guardrail do.
    gc.freeze()
    print(
        f"| text of {size:,} characters | "
        + " | ".join(f"{name}: step, ms | µs per character" for name in kinds)
        + " |"
    )
    print("|---|" + "---|---|" * len(kinds))
    for name, unit in FLOODS.items():
        cells: list[str] = []
        for policy in kinds.values():
            spent = _steps(policy, (unit * (size // len(unit) + 1))[:size])
            cells += [f"{max(spent) * 1e3:.0f}", f"{sum(spent) / size * 1e6:.1f}"]
        print(f"| {name} | {' | '.join(cells)} |")


def _steps(policy: guardrails.Policy, text: str) -> list[float]:
    spent: list[float] = []
    scan = policy.scan_steps(text)
    while True:
        started = time.process_time()
        ended = next(scan, True)
        spent.append(time.process_time() - started)
        if ended:
            return spent


def pieces() -> None:
    """Prints microseconds per streamed piece."""
    policies = {
        "profanity and card numbers": compiled(LANGUAGE, CARDS),
        "profanity": compiled(LANGUAGE),
        "card numbers": compiled(CARDS),
        "100 phrases": compiled(*banned(100)),
        "10,000 phrases": compiled(*banned(10_000)),
    }
    print("| rules | characters of text | 1 token | 2 tokens | 4 tokens |")
    print("|---|---|---|---|---|")
    for (name, policy), size in itertools.product(policies.items(), (1024, 16_384)):
        cells: list[str] = []
        for count in (1, 2, 4):
            cut = in_tokens(prose(size), count)
            spent = seconds(lambda cut=cut, policy=policy: stream(policy, cut), max(5, 100_000 // size))
            cells.append(f"{spent / len(cut) * 1e6:.1f}")
        print(f"| {name} | {size:,} | {' | '.join(cells)} |")
    cells = [
        f"{seconds(lambda cut=cut: stream(policies['profanity and card numbers'], cut), 5) / len(cut) * 1e6:.1f}"
        for count in (1, 2, 4)
        for cut in [["".join(tokens) for tokens in zip(*[iter(noise(4096))] * count, strict=True)]]
    ]
    print(f"| profanity and card numbers, noise | 16,384 | {' | '.join(cells)} |")


if __name__ == "__main__":
    whole_texts()
    print("\nMicroseconds per streamed piece:\n")
    pieces()
    print("\nPolicies of many phrases:\n")
    policies()
    print("\nOther filters:\n")
    others()
    print("\nThe longest step, and the time for a character, of long texts of one disguise:\n")
    worst(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
