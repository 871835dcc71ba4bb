"""Phrases as a trie, built once for a policy: what the walks from a place of a text go along."""

from __future__ import annotations

from collections.abc import Iterable

from tritonllm.guardrails import folding


class Node:
    """A place in the trie.

    Attributes:
        children: by folded letter; `folding.GAP` leads to the next word of a phrase.
        ends: the rules that have a phrase ending here.
        gap: whether it stands between two words of a phrase.
    """

    __slots__ = ("children", "ends", "gap")

    def __init__(self, *, gap: bool = False) -> None:
        self.children: dict[str, Node] = {}
        self.ends: tuple[int, ...] = ()
        self.gap = gap


def normalize(phrase: str) -> str:
    """A phrase as the trie holds it: folded, with one `folding.GAP` between its words.

    Stars around it are emphasis, as they are around what is said.
    """
    parts: list[str] = []
    for char in phrase:
        parts.append(folding.GAP if folding.is_gap(char) and char not in "*" else folding.fold(char))
    return folding.GAP.join("".join(parts).split()).strip(f"*{folding.GAP}")


def build(phrases: Iterable[tuple[str, int]]) -> Node:
    """A trie.

    Args:
        phrases: normalized phrases, each with the number of its rule.
    """
    root = Node()
    for phrase, rule in phrases:
        node = root
        for letter in phrase:
            node = node.children.setdefault(letter, Node(gap=letter == folding.GAP))
        if rule not in node.ends:
            node.ends = (*node.ends, rule)
    return root


class Undecided(Exception):
    """The text that has come so far does not tell what it says at a place."""
