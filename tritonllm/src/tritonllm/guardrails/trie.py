"""Phrases as a trie, and the walk that tells whether a text says one of them from a given place on.

The walk reads the text as it is, code point by code point, and follows every reading of each: the letter
itself, a letter it is written for, one more repetition of the letter before, something invisible. It stops
as soon as nothing can come of it, which in ordinary text is after one or two characters.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from tritonllm.guardrails import folding

# How much of a disguise a match may hold. Without limits a text of nothing but disguise would have to be
# held back without end.
LONGEST_GAP = 32
LONGEST_INVISIBLE = 32
LONGEST_REPEAT = 32
# `goood` may be said for `god`, `good` is another word.
SHORTEST_REPEAT = 3
SHORTEST_SPELLED = 3
# How far back the place of a match is judged: past all that is invisible, to the letters before.
LOOKBACK = 80

# In how a word of a phrase was matched: that a word before it was meant.
_MEANT_BEFORE = 8

_SPELLED_BY = frozenset(" .-_*\u00b7\u2010\u2011\u2013")


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


class Undecided(Exception):
    """The text that has come so far does not tell."""


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


def walk(root: Node, text: str, start: int, *, words: bool, last: bool) -> dict[int, int]:
    """Finds the longest phrase of each rule that begins at a place.

    Args:
        root: the trie.
        text: what has come of the text, with up to `LOOKBACK` code points before `start`.
        start: where a phrase would begin.
        words: whether a phrase must begin and end at word boundaries.
        last: whether nothing comes after `text`.

    Returns:
        By rule, where its longest phrase ends; what is invisible behind it counts as part of it.

    Raises:
        Undecided: what comes next decides.
    """
    readings = folding.letters(text[start])
    if not readings or not any(letter in root.children for letter, _ in readings[0]):
        return {}
    if words and not _may_begin(text, start):
        return {}
    found = _walk_letters(root, text, start, words, last)
    if words:
        for rule, end in _walk_spelled(root, text, start, last).items():
            found[rule] = max(end, found.get(rule, 0))
    return found


_State = tuple[Node, int, bool]
"""A node, how its letters were matched (bits of `folding`), and whether the latest letter was repeated."""


def _walk_letters(root: Node, text: str, start: int, words: bool, last: bool) -> dict[int, int]:
    states: set[_State] = {(root, 0, False)}
    ended: set[int] = set()
    found: dict[int, int] = {}
    previous, repeats, previous_repeats, invisible, gap = "", 0, 0, 0, 0
    for index in range(start, len(text)):
        char = text[index]
        is_gap = folding.is_gap(char)
        readings = folding.letters(char)
        if not readings and not is_gap:
            invisible += 1
            if invisible > LONGEST_INVISIBLE:
                found.update(dict.fromkeys(ended, index))
                return found
            continue
        invisible = 0
        if ended:
            if not (words and _is_bound(text[start], char)):
                found.update(dict.fromkeys(ended, index))
            ended = set()
        following: set[_State] = set()
        if is_gap:
            gap += 1
            if gap <= LONGEST_GAP:
                following = _step_gap(states, repeats, text, start)
        else:
            gap = 0
        if not readings:
            previous, repeats, previous_repeats, states = "", 0, 0, set()
        for reading in readings:
            letter = reading[0][0]
            repeats = repeats + 1 if letter == previous and letter.isalpha() else 1
            may_repeat = 1 < repeats <= LONGEST_REPEAT and not _repeats_before(text, start)
            states = _step(states, reading, repeats, previous_repeats, may_repeat)
            previous, previous_repeats = letter, repeats
        states |= following
        if not states:
            return found
        for node, how, repeated in states:
            # A star is a vowel inside a word; behind one it is emphasis.
            if (
                node.ends
                and char != "*"
                and not (repeated and repeats < SHORTEST_REPEAT)
                and _is_meant(how, text, start)
            ):
                ended.update(node.ends)
    if not last:
        raise Undecided
    found.update(dict.fromkeys(ended, len(text)))
    return found


def _step_gap(states: set[_State], repeats: int, text: str, start: int) -> set[_State]:
    following: set[_State] = set()
    for node, how, repeated in states:
        if node.gap:
            following.add((node, how, False))
        elif (
            folding.GAP in node.children
            and not (repeated and repeats < SHORTEST_REPEAT)
            and _is_meant(how, text, start)
        ):
            following.add((node.children[folding.GAP], _MEANT_BEFORE if how else 0, False))
    return following


def _step(
    states: set[_State], reading: folding.Letter, repeats: int, repeats_before: int, may_repeat: bool
) -> set[_State]:
    """Takes one letter: the `repeats`-th of its kind in a row, after `repeats_before` of the letter before."""
    following: set[_State] = set()
    for node, how, repeated in states:
        if repeated and repeats == 1:
            if repeats_before < SHORTEST_REPEAT:
                continue
            repeated = False
        if may_repeat and not node.gap:
            following.add((node, how, True))
        for letter, kind in reading:
            child = node.children.get(letter)
            if child is not None:
                following.add((child, how | kind, repeated))
    return following


def _is_meant(how: int, text: str, start: int) -> bool:
    """Whether letters matched this way make a word: not digits and signs alone, nor another script's word."""
    kinds = how & ~_MEANT_BEFORE
    if kinds & folding.EXACT or not kinds:
        return True
    return not kinds & folding.LEET and (how != kinds or _after_latin(text, start))


def _is_bound(first: str, after: str) -> bool:
    """Whether the code point after a phrase makes it a part of a longer word."""
    return folding.is_word(after) and not folding.is_unspaced(first)


def _walk_spelled(root: Node, text: str, start: int, last: bool) -> dict[int, int]:
    """A phrase spelled letter by letter: `f u c k`, `f.u.c.k`."""
    if not _may_begin_spelling(text, start):
        return {}
    states = {(root, 0)}
    count, index, size = 0, start, len(text)
    while True:
        if index >= size:
            if last:
                return {}
            raise Undecided
        states = _step_spelled(states, text[index])
        count += 1
        index += 1
        ends = {rule for node, how in states if _is_meant(how, text, start) for rule in node.ends}
        if ends and count >= SHORTEST_SPELLED:
            if index + 2 >= size and not last and (index >= size or _is_between(text[index])):
                raise Undecided
            if not _is_letter(text, index) and not _goes_on(text, index):
                return dict.fromkeys(ends, index)
        if not states:
            return {}
        if index + 1 >= size and not last:
            raise Undecided
        if index + 1 >= size or not _is_between(text[index]) or not _may_spell(text[index + 1]):
            return {}
        index += 1


def _step_spelled(states: set[tuple[Node, int]], char: str) -> set[tuple[Node, int]]:
    following: set[tuple[Node, int]] = set()
    for node, how in states:
        for letter, kind in (each for reading in folding.letters(char) for each in reading):
            child = node.children.get(letter)
            if child is not None:
                following.add((child, how | kind))
                if folding.GAP in child.children:
                    following.add((child.children[folding.GAP], how | kind))
    return following


def _goes_on(text: str, index: int) -> bool:
    """Whether a spelling goes on with another single letter at `index`."""
    return (
        index < len(text)
        and _is_between(text[index])
        and _is_letter(text, index + 1)
        and not _is_letter(text, index + 2)
    )


def _is_between(char: str) -> bool:
    """Whether a code point may stand between the letters of a spelled word."""
    return char in _SPELLED_BY or folding.fold(char) in _SPELLED_BY


def _may_spell(char: str) -> bool:
    return folding.is_word(char) or char in folding.SYMBOLS


def _is_letter(text: str, index: int) -> bool:
    return index < len(text) and folding.is_word(text[index])


def _may_begin_spelling(text: str, start: int) -> bool:
    """Whether no spelling is under way; the words `I` and `a` before one are none."""
    if not _may_spell(text[start]) or (start + 1 < len(text) and not _is_between(text[start + 1])):
        return False
    if start < 2 or not _is_between(text[start - 1]) or not folding.is_word(text[start - 2]):
        return True
    single = start < 3 or not folding.is_word(text[start - 3])
    return not single or text[start - 2] in "iIaA"


def _may_begin(text: str, start: int) -> bool:
    first = text[start]
    if first == "*":
        return False
    if not folding.is_word(first) and first not in folding.SYMBOLS:
        return True
    before = _before(text, start)
    return before is None or not folding.is_word(before)


def _before(text: str, start: int) -> str | None:
    """The last code point before a place that can be seen."""
    return next(_seen_before(text, start), None)


def _seen_before(text: str, start: int) -> Iterator[str]:
    """The code points before a place that can be seen, the last one first."""
    for index in range(start - 1, max(-1, start - 1 - LOOKBACK), -1):
        if not folding.is_ignorable(text[index]):
            yield text[index]


def _after_latin(text: str, start: int) -> bool:
    """Whether the last letter before a place is Latin, so that a word of look-alikes is meant to be read as such."""
    for char in _seen_before(text, start):
        if folding.is_word(char) and not char.isdigit():
            return folding.is_latin(char)
    return False


def _repeats_before(text: str, start: int) -> bool:
    """Whether a letter only goes on that was there twice; what its repetitions may mean began before."""
    letter = folding.fold(text[start])
    before = itertools.islice(_seen_before(text, start), SHORTEST_REPEAT - 1)
    return [folding.fold(char) for char in before] == [letter] * (SHORTEST_REPEAT - 1)
