"""What a guardrail costs: microseconds per KB of ordinary prose, beside better_profanity on the same text.

python bench/guardrails.py
"""

from __future__ import annotations

import pydoc_data.topics
import re
import statistics
import time
from collections.abc import Callable

import better_profanity

from tritonllm import api, guardrails

CHUNK = 4


def prose(size: int) -> str:
    """English sentences out of Python's own documentation."""
    text = " ".join(" ".join(pydoc_data.topics.topics.values()).split())
    return " ".join(re.findall(r"[A-Z][a-z]+(?:,? (?:a|I|[a-z'-]{2,})){4,}[.:]", text))[:size]


def seconds(work: Callable[[], object], rounds: int) -> float:
    """The median processor time of a piece of work."""
    spent = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return statistics.median(spent)


def stream(policy: guardrails.Policy, text: str) -> None:
    """Feeds a text as an engine would, four characters at a time."""
    judged = policy.stream()
    for start in range(0, len(text), CHUNK):
        judged.feed(text[start : start + CHUNK])
    judged.finish()


def main() -> None:
    """Prints one markdown table."""
    rule = api.Rule.model_validate({"name": "language", "profanity": {}, "action": "Mask"})
    ours = guardrails.compile([rule])
    theirs = better_profanity.Profanity()
    print(
        "| text | whole, µs per KB | better_profanity, µs per KB | times faster | streamed, µs per 4 characters |"
    )
    print("|---|---|---|---|---|")
    for size in (100, 1024, 10_240, 102_400):
        text = prose(size)
        kilobytes = len(text) / 1024
        whole = seconds(lambda text=text: ours.scan(text), max(5, 2_000_000 // size)) / kilobytes
        pieces = seconds(lambda text=text: stream(ours, text), 3) / (len(text) / CHUNK)
        # It is linear in the text, and a second per 5 KB: measured on the longest no more.
        rounds = 3 if size <= 1024 else 1
        slow = seconds(lambda text=text: theirs.censor(text), rounds) / kilobytes if size <= 10_240 else 0.0
        shown = (f"{slow * 1e6:,.0f}", f"{slow / whole:,.0f}") if slow else ("", "")
        print(f"| {size:,} B | {whole * 1e6:.1f} | {shown[0]} | {shown[1]} | {pieces * 1e6:.1f} |")


if __name__ == "__main__":
    main()
