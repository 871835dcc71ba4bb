"""A trie of phrases, built once per policy; `matcher` and `spelled_out` walk it."""

from __future__ import annotations

from collections.abc import Iterable

from tritonllm.guardrails import normalization


class Node:
    """A node of the trie.

    Attributes:
        children: by folded letter; `normalization.GAP` leads to the next word of a phrase.
        ends: the rules that have a phrase ending here.
        gap: whether it stands between two words of a phrase.
    """

    __slots__ = ("children", "ends", "gap")

    def __init__(self, *, gap: bool = False) -> None:
        self.children: dict[str, Node] = {}
        self.ends: tuple[int, ...] = ()
        self.gap = gap


def normalize(phrase: str) -> str:
    """A phrase as the trie holds it: folded, with one `normalization.GAP` between its words.

    Stars around it are emphasis, as they are around what is said.
    """
    parts: list[str] = []
    for char in phrase:
        # A superscript of a phrase is meant.
        separates = normalization.is_gap(char) and char != "*" and not normalization.is_superscript(char)
        parts.append(normalization.GAP if separates else normalization.fold(char))
    return normalization.GAP.join("".join(parts).split()).strip(f"*{normalization.GAP}")


def build(phrases: Iterable[tuple[str, int]]) -> Node:
    """A trie.

    Args:
        phrases: normalized phrases, each with the number of its rule.
    """
    root = Node()
    for phrase, rule in phrases:
        node = root
        for letter in phrase:
            node = node.children.setdefault(letter, Node(gap=letter == normalization.GAP))
        if rule not in node.ends:
            node.ends = (*node.ends, rule)
    return root


class NeedMoreInput(Exception):
    """Only the text that follows tells what is said at a position."""
