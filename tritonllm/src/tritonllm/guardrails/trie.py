"""A trie of phrases, built once per policy; `matcher` and `spelled_out` walk it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tritonllm.guardrails import normalization

_PLAIN = re.compile("[A-Za-z ]+")


class Node:
    """A node of the trie. Its children are made when they are first asked for: most never are.

    Attributes:
        ends: the rules that have a phrase ending here.
        gap: whether it stands between two words of a phrase.

    Args:
        phrases: those that lead here, each with the number of its rule.
        depth: how many letters lead here.
        gap: see above.
    """

    __slots__ = ("_aliases", "_children", "_depth", "_phrases", "ends", "gap")

    def __init__(self, phrases: Sequence[tuple[str, int]], depth: int = 0, *, gap: bool = False) -> None:
        self.gap = gap
        self.ends = tuple(dict.fromkeys(rule for phrase, rule in phrases if len(phrase) == depth))
        self._depth = depth
        self._phrases = phrases
        self._children: dict[str, Node] | None = None
        self._aliases: dict[str, list[tuple[Node, int]]] = _NONE

    def follow(self, reading: normalization.Letter, *, as_number: bool = False) -> list[tuple[Node, int]]:
        """The children to which a letter leads, each with how it is matched.

        Args:
            reading: what the letter may stand for.
            as_number: whether a digit is just that.
        """
        children = self._children
        if children is None:
            children = self._grow()
        found: list[tuple[Node, int]] = []
        for letter, kind in reading[:1] if as_number else reading:
            child = children.get(letter)
            if child is not None:
                found.append((child, kind))
        if self._aliases and not as_number and reading[0][0] not in children:
            for letter, kind in reading:
                found += [
                    (child, how | kind & ~normalization.EXACT) for child, how in self._aliases.get(letter, ())
                ]
        return found

    def next_word(self) -> Node | None:
        """The node behind the gap that follows here."""
        children = self._children
        return (self._grow() if children is None else children).get(normalization.GAP)

    def _grow(self) -> dict[str, Node]:
        depth = self._depth
        by_letter: dict[str, list[tuple[str, int]]] = {}
        for phrase in self._phrases:
            if len(phrase[0]) > depth:
                by_letter.setdefault(phrase[0][depth], []).append(phrase)
        children = {
            letter: Node(phrases, depth + 1, gap=letter == normalization.GAP)
            for letter, phrases in by_letter.items()
        }
        aliases: dict[str, list[tuple[Node, int]]] = {}
        for letter, child in children.items():
            for sign, how in normalization.written_as(letter):
                aliases.setdefault(sign, []).append((child, how))
        # Another thread may do the same at the same time, with the same result.
        self._aliases = aliases or _NONE
        self._children = children
        self._phrases = ()
        return children


_NONE: dict[str, list[tuple[Node, int]]] = {}


def normalize(phrase: str) -> str:
    """A phrase as the trie holds it: folded, with one `normalization.GAP` between its words.

    Stars around it are emphasis, as they are around what is said.
    """
    if _PLAIN.fullmatch(phrase):
        return normalization.GAP.join(phrase.lower().split())
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
    return Node(list(phrases))


class NeedMoreInput(Exception):
    """Only the text that follows tells what is said at a position."""
