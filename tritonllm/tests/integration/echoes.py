"""Prompts for an engine that gives them back, full of what the output rules look for, and the check of the answers.

A simulated engine with `reply: echo` says what is known before it says it. So each answer can be compared with what
masking the whole text at once gives, however the server cut it into pieces.
"""

from __future__ import annotations

import itertools
import random

import models
from tritonllm import guardrails
from tritonllm.rules import words
from tritonllm.runtime import simulated

BLOCKED = "the wombat protocol"
_DISGUISES = (
    str,
    str.upper,
    "**{}**".format,
    "'{}'".format,
    ".".join,
    " ".join,
)


def prompt(chance: random.Random, length: int = 24) -> str:
    """Harmless words, and among them words that are masked, in a disguise or without."""
    said = chance.choices(models.vocabulary(), k=length)
    for place in chance.sample(range(length), k=length // 4):
        word = chance.choice(words.profanity())
        said[place] = chance.choice([*(disguise(word) for disguise in _DISGUISES), "queueing aeiou"])
    # With a space at the end, as the engine begins again there.
    return " ".join(said) + " "


def said(prompt: str, tokens: int) -> str:
    """What the engine says to a prompt with `ignore_eos`: the prompt, again and again."""
    return "".join(itertools.islice(itertools.cycle(prompt), tokens * simulated.TOKEN_CHARACTERS))


def problem(policy: guardrails.Policy, said: str, end: str, text: str) -> str | None:
    """What is wrong with an answer, if anything.

    Args:
        policy: the output rules.
        said: what the engine says, or would have said if the answer had not ended before.
        end: how the answer ended.
        text: what arrived.
    """
    whole = policy.scan(said).text
    if end in ("length", "content_filter"):
        return None if text == whole else f"{end}, but the text is not the masked one"
    if whole.startswith(text):
        return None
    # An answer that the engine was told to end is judged as it stands.
    cuts = range(0, len(said), simulated.TOKEN_CHARACTERS) if end in ("cancelled", "timeout") else ()
    if any(policy.scan(said[:cut]).text == text for cut in cuts):
        return None
    return f"{end} after a text that is not the beginning of the masked one"
