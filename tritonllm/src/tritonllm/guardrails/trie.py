"""A trie of phrases, built once per policy; `matcher` and `spelled_out` walk it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tritonllm.guardrails import normalization


class Node:
    """A node of the trie.

    Attributes:
        children: by folded letter; `normalization.GAP` leads to the next word of a phrase.
        ends: the rules that have a phrase ending here.
        gap: whether it stands between two words of a phrase.
        aliases: by what ASCII writes for a letter of another script: the child, and how it is matched.
    """

    __slots__ = ("aliases", "children", "ends", "gap")

    def __init__(self, *, gap: bool = False) -> None:
        self.children: dict[str, Node] = {}
        self.ends: tuple[int, ...] = ()
        self.gap = gap
        self.aliases: dict[str, list[tuple[Node, int]]] = _NONE

    def follow(self, reading: normalization.Letter, *, as_number: bool = False) -> Iterator[tuple[Node, int]]:
        """The children to which a letter leads, each with how it is matched.

        Args:
            reading: what the letter may stand for.
            as_number: whether a digit is just that.
        """
        children = self.children
        for letter, kind in reading[:1] if as_number else reading:
            child = children.get(letter)
            if child is not None:
                yield child, kind
        if self.aliases and not as_number and reading[0][0] not in children:
            for letter, kind in reading:
                for child, how in self.aliases.get(letter, ()):
                    yield child, how | kind & ~normalization.EXACT


_NONE: dict[str, list[tuple[Node, int]]] = {}


def normalize(phrase: str) -> str:
    """A phrase as the trie holds it: folded, with one `normalization.GAP` between its words.

    Stars around it are emphasis, as they are around what is said.
    """
    parts: list[str] = []
    for char in phrase:
        separates = normalization.is_gap(char) and char != "*" and not _is_meant(char)
        parts.append(normalization.GAP if separates else normalization.fold(char))
    return normalization.GAP.join("".join(parts).split()).strip(f"*{normalization.GAP}")


def _is_meant(char: str) -> bool:
    """Whether a sign that may stand beside a word is a part of a phrase that has it."""
    return normalization.is_superscript(char) or normalization.is_pictograph(char)


def build(phrases: Iterable[tuple[str, int]]) -> Node:
    """A trie.

    Args:
        phrases: normalized phrases, each with the number of its rule.
    """
    root = Node()
    for phrase, rule in phrases:
        node = root
        for letter in phrase:
            child = node.children.get(letter)
            if child is None:
                child = node.children[letter] = Node(gap=letter == normalization.GAP)
                for sign, how in normalization.written_as(letter):
                    if node.aliases is _NONE:
                        node.aliases = {}
                    node.aliases.setdefault(sign, []).append((child, how))
            node = child
        if rule not in node.ends:
            node.ends = (*node.ends, rule)
    return root


class NeedMoreInput(Exception):
    """Only the text that follows tells what is said at a position."""
