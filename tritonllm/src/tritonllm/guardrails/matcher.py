"""Matches the phrases that begin at a position of a text: the exact half of `phrases`.

The walk reads the text as it is, code point by code point, and follows every reading of each: the letter
itself, a letter it is written for, one more repetition of the letter before, something invisible. It stops
as soon as nothing can come of it, which in ordinary text is after one or two characters.
"""

from __future__ import annotations

from tritonllm.guardrails import context, normalization, numbers, spelled_out, trie

# How much of a disguise a match may hold. Without limits a text of nothing but disguise would have to be
# held back without end.
LONGEST_GAP = 32
LONGEST_INVISIBLE = 32
# A picture between two words counts as so much of a gap.
PICTURE = 8
LONGEST_REPEAT = 32
_KEYCAPS = frozenset("0123456789#*")
# `goood` may be said for `god`, `good` is another word.
SHORTEST_REPEAT = 3


def walk(root: trie.Node, text: str, start: int, *, words: bool, last: bool) -> dict[int, int]:
    """Finds the longest phrase of each rule that begins at a position.

    Args:
        root: the trie.
        text: what has come of the text, with up to `context.LOOKBACK` code points before `start`.
        start: where a phrase would begin.
        words: whether a phrase must begin and end at word boundaries.
        last: whether nothing comes after `text`.

    Returns:
        By rule, where its longest phrase ends; what is invisible behind it counts as part of it.

    Raises:
        trie.NeedMoreInput: what comes next decides.
    """
    readings = normalization.letters(text[start])
    if not readings or not root.follow(readings[0]):
        return {}
    if words and not _may_begin(text, start):
        return {}
    found = _walk_letters(root, text, start, words, last)
    if words:
        for rule, end in spelled_out.walk(root, text, start, last).items():
            found[rule] = max(end, found.get(rule, 0))
    return found


_State = tuple[trie.Node, int, bool]
"""A node, how its letters were matched (bits of `normalization`), and whether the latest letter was repeated."""


def _walk_letters(root: trie.Node, text: str, start: int, words: bool, last: bool) -> dict[int, int]:
    states: set[_State] = {(root, 0, False)}
    ended: set[int] = set()
    found: dict[int, int] = {}
    previous, repeats, previous_repeats, invisible, gap = "", 0, 0, 0, 0
    for index in range(start, len(text)):
        char = text[index]
        is_keycap = char in _KEYCAPS and _has_keycap(text, index, last)
        is_gap = is_keycap or normalization.is_gap(char)
        readings = () if is_keycap else normalization.letters(char)
        if previous and normalization.is_mark(char) and normalization.has_accents(previous):
            readings = ()
        if not readings and not is_gap:
            invisible += 1
            if invisible > LONGEST_INVISIBLE:
                found.update(dict.fromkeys(ended, index))
                return found
            continue
        invisible = 0
        if ended:
            if not normalization.is_mark(char) and not (
                words and not is_gap and _is_bound(text[start], char)
            ):
                found.update(dict.fromkeys(ended, index))
            ended = set()
        following: set[_State] = set()
        if is_gap:
            gap += PICTURE if is_keycap or normalization.is_pictograph(char) else 1
            if gap <= LONGEST_GAP:
                following = _step_gap(states, repeats, text, start)
        else:
            gap = 0
        if not readings:
            previous, repeats, previous_repeats, states = "", 0, 0, set()
        for reading in readings:
            letter = reading[0][0]
            as_number = (
                letter.isdigit()
                and _could_be_leet(states, reading)
                and numbers.is_number(text, index, last=last)
            )
            is_repeated = letter == previous and (letter.isalpha() or normalization.is_mark(letter))
            repeats = repeats + 1 if is_repeated else 1
            # What more repetitions of an earlier letter mean is found from there.
            may_repeat = 1 < repeats <= LONGEST_REPEAT and not context.repeats(
                text, start, SHORTEST_REPEAT - 1
            )
            states = _step(states, reading, as_number, repeats, previous_repeats, may_repeat)
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
                and context.is_plausible_word(how, text, start)
            ):
                ended.update(node.ends)
    if not last:
        raise trie.NeedMoreInput
    found.update(dict.fromkeys(ended, len(text)))
    return found


def _could_be_leet(states: set[_State], reading: normalization.Letter) -> bool:
    """Whether any state goes on with a digit read as a letter."""
    return any(kind & normalization.LEET for node, _, _ in states for _, kind in node.follow(reading))


def _step_gap(states: set[_State], repeats: int, text: str, start: int) -> set[_State]:
    following: set[_State] = set()
    for node, how, repeated in states:
        if node.gap:
            following.add((node, how, False))
        elif (
            (behind := node.next_word())
            and not (repeated and repeats < SHORTEST_REPEAT)
            and context.is_plausible_word(how, text, start)
        ):
            following.add((behind, context.PLAUSIBLE_BEFORE if how else 0, False))
    return following


def _step(
    states: set[_State],
    reading: normalization.Letter,
    as_number: bool,
    repeats: int,
    repeats_before: int,
    may_repeat: bool,
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
        for child, kind in node.follow(reading, as_number=as_number):
            following.add((child, how | kind, repeated))
    return following


def _has_keycap(text: str, index: int, last: bool) -> bool:
    """Whether a digit or sign is a picture of a key, as in `1\ufe0f\u20e3`."""
    behind = text[index + 1 : index + 3]
    if not last and (not behind or behind == "\ufe0f"):
        raise trie.NeedMoreInput
    return behind.removeprefix("\ufe0f")[:1] == "\u20e3"


def _is_bound(first: str, after: str) -> bool:
    """Whether the code point after a phrase makes it a part of a longer word."""
    return normalization.is_word(after) and not normalization.is_unspaced(first)


def _may_begin(text: str, start: int) -> bool:
    first = text[start]
    if first == "*":
        return False
    if not normalization.is_word(first) and first not in normalization.SYMBOLS:
        return True
    before = context.before(text, start)
    return before is None or not normalization.is_word(before)
