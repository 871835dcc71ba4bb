"""What a chat page shows of a text: markup is removed, and hidden letters are read.

Markdown's emphasis, links and escapes, HTML's tags and entities, table bars, footnotes, hidden characters and regional
letters are *units*. Each is recognized from its own characters and the ones beside it, within a limit, so that a text may
be cut anywhere: what could still become a unit is kept until it is decided. `markup_view` keeps the offsets.
"""

from __future__ import annotations

import html
import re

LONGEST_TARGET = 512
"""Maximum length of a link's target; with a longer one it is no link."""

_LONGEST_TAG, _LONGEST_LABEL, _LONGEST_ENTITY = 256, 80, 32

_TAGS = "\U000e0020-\U000e007e"
# Tags, and variation selectors of which each carries a byte.
_CARRIERS = f"{_TAGS}\U000e0110-\U000e016e"
# What may be between two of them and is seen no more than they are.
_BETWEEN = "[\u00ad\u034f\u200b-\u200f\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0001\U000e007f]{0,4}"
_CANCEL_TAG = "\U000e007f"
_REGIONAL = "\U0001f1e6-\U0001f1ff"
_RAISED = "\u02b0-\u02b8\u1d2c-\u1d6a\u1d9b-\u1dbf\u2071\u207f\u00aa\u00ba"
_LETTER = r"[^\W\d_]"
# The signs of copyright and of registered names as circled letters, and footnotes as circled numbers.
_CIRCLED, _NUMBERED = "\u24b8\u24c7\u24d2\u24e1", "\u2460-\u2473\u2776-\u277f"

_UNITS = {
    "footnote": r"\[\^?\d{1,3}(?:[,\u2013-] ?\d{1,3}){0,3}\](?!\()|\[\^[\w-]{1,16}\](?!\()|\u3010\d[^\u3010\u3011\n]{0,24}\u3011",
    "link": rf"\[(?=[^\[\]\n]{{1,{_LONGEST_LABEL}}}\]\()",
    "target": rf'\]\((?:<[^<>\n]{{0,{LONGEST_TARGET}}}>|[^()\s]{{0,{LONGEST_TARGET}}})(?:[ \t]+"[^"\n]{{0,128}}")?\)',
    "small": r"(?i:<su[bp](?: [^<>\n]{0,64})?>[^<>\n]{0,16}</su[bp]>)",
    "block": r"(?i:</?(?:br|p|div|li|[uod]l|d[td]|h[1-6]|hr|table|caption|t(?:r|d|h|head|body|foot)|pre|blockquote|details|summary|"
    r"section|article|header|footer|figure|figcaption|main|nav|aside|center|form|option)(?=[\s/>])[^<>\n]{0,240}>)",
    "tag": rf"</?[A-Za-z][^<>\n]{{0,{_LONGEST_TAG}}}>|<!--(?:-?>|(?s:.){{0,{_LONGEST_TAG}}}?-->)",
    "entity": r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});",
    "escape": r"\\[!-/:-@\[-`{-~\n]",
    "emphasis": r"[*~`]|_(?![^\W_])|(?<![^\W_])_",
    "bar": r"\|",
    "quote": r"(?<![^\n> ])>",
    "mark": r"\( ?(?:TM|SM|R|C|tm|sm|r|c|[\u00a9\u00ae\u2117\u2120\u2122]) ?\)",
    "circled": rf"(?<![\u24b6-\u24e9])[{_CIRCLED}](?![^\W_])|(?<={_LETTER})[{_NUMBERED}](?![^\W_])",
    "flag": rf"\U0001f3f4[{_TAGS}]{{3,5}}{_CANCEL_TAG}",
    "regional": rf"[{_REGIONAL}]{{1,32}}",
    "hidden": rf"[{_CARRIERS}]",
    "raised": rf"(?<={_LETTER})(?<![{_RAISED}])[{_RAISED}]{{1,3}}(?![^\W_])",
}
# What reaches the end of a text and may go on to become a unit.
_UNDECIDED = [
    rf"\[(?:\^?[\w-]{{0,16}}|[^\[\]\n]{{0,{_LONGEST_LABEL}}}\]?)",
    r"\u3010(?:\d[^\u3010\u3011\n]{0,24})?",
    rf'\](?:\((?:<[^<>\n]{{0,{LONGEST_TARGET}}}|<[^<>\n]{{0,{LONGEST_TARGET}}}>|[^()\s]{{0,{LONGEST_TARGET}}})(?:[ \t]+(?:"[^"\n]{{0,128}}"?)?)?)?',
    rf"<(?:/?[A-Za-z][^<>\n]{{0,{_LONGEST_TAG}}}|/|!(?:-(?:-(?s:.){{0,{_LONGEST_TAG}}})?)?)?",
    r"(?i:<su[bp](?: [^<>\n]{0,64})?>[^<>\n]{0,16}(?:<(?:/(?:s(?:u[bp]?)?)?)?)?)",
    rf"&(?:#[xX]?[0-9A-Fa-f]{{0,7}}|[A-Za-z0-9]{{0,{_LONGEST_ENTITY}}})",
    r"\\",
    r"_",
    r"\( ?(?:[A-Za-z]{0,2}|[\u00a9\u00ae\u2117\u2120\u2122]) ?",
    rf"[{_CIRCLED}{_NUMBERED}]",
    rf"\U0001f3f4[{_TAGS}]{{0,5}}",
    rf"[{_REGIONAL}]{{1,31}}",
    rf"[{_CARRIERS}]{_BETWEEN}",
    rf"[{_RAISED}]{{1,3}}",
]

STARTS = re.compile(rf"[\[\]<&\\*~`_|>(\u3010{_CIRCLED}{_NUMBERED}\U0001f3f4{_REGIONAL}{_CARRIERS}{_RAISED}]")
"""Every character with which a unit begins."""
_ASCII_STARTS = bytes(code for code in range(128) if STARTS.match(chr(code)))

_DECIDED = re.compile("|".join(f"(?P<{name}>{regex})" for name, regex in _UNITS.items()))
_OPEN = re.compile(f"(?P<undecided>(?:{'|'.join(_UNDECIDED)})\\Z)|{_DECIDED.pattern}")

# The flags of countries and regions: all pairs that CLDR lists for emoji (unicode.org/Public/emoji, emoji-sequences.txt).
_FLAGS = frozenset(
    re.findall(
        "..",
        "acadaeafagaialamaoaqarasatauawaxazbabbbdbebfbgbhbibjblbmbnbobqbrbsbtbvbwbybzcacccdcfcgchcickclcmcncocpcr"
        "cucvcwcxcyczdedgdjdkdmdodzeaeceeegeheresetEUfifjfkfmfofrgagbgdgegfggghgiglgmgngpgqgrgsgtgugwgyhkhmhnhrht"
        "huicidieiliminioiqirisitjejmjojpkekgkhkikmknkpkrkwkykzlalblclilklrlsltlulvlymamcmdmemfmgmhmkmlmmmnmompmq"
        "mrmsmtmumvmwmxmymznancnenfngninlnonpnrnunzompapepfpgphpkplpmpnprpsptpwpyqarerorsruRWsasbscsdsesgshsisjsk"
        "slsmsnsosrssstsvsxsysztatctdtftgthtjtktltmtntotrtttvtwtzuaugumunusuyuzvavcvevgvivnvuwfwsxkyeytzazmzw".lower(),
    )
)

_HIDDEN_BEFORE = re.compile(rf"[{_CARRIERS}]{_BETWEEN}\Z")
_HIDDEN_BEHIND = re.compile(f"{_BETWEEN}[{_CARRIERS}]")
LOOKBEHIND = 6
"""How many characters before a unit tell what it is: a hidden letter, and what is between it and the unit."""


def may_begin(text: str) -> bool:
    """Whether a unit may begin in a text."""
    if text.isascii():
        # Faster than the expression for the short pieces of a stream.
        return len(text.encode().translate(None, _ASCII_STARTS)) < len(text)
    return STARTS.search(text) is not None


def unit(text: str, start: int, *, last: bool) -> tuple[int, str] | None:
    """The unit that begins at a position.

    Args:
        text: what has come of the text, with at least one character before `start` if there is one.
        start: where `STARTS` matches.
        last: whether nothing follows `text`.

    Returns:
        Its end, and what is shown of it; the position itself if what follows the text decides; None if none begins.
    """
    found = (_DECIDED if last else _OPEN).match(text, start)
    if found is None:
        return None
    if found.lastgroup == "undecided":
        return start, ""
    end, said = found.end(), found[0]
    match found.lastgroup:
        case "block":
            return end, "\n"
        case "bar":
            return end, " "
        case "mark" | "circled":
            return end, "\u2122"
        case "flag":
            return end, "\U0001f3f4"
        case "entity":
            shown = html.unescape(said)
            return None if shown == said else (end, shown)
        case "escape":
            return end, said[1]
        case "regional":
            return end, _flags(said) or "".join(chr(ord(char) - 0x1F1E6 + ord("a")) for char in said)
        case "hidden":
            return end, _revealed(text, start)
        case _:
            return end, ""


def _flags(letters: str) -> str:
    """White flags for regional letters that are flags; empty if not all of them are."""
    codes = "".join(chr(ord(letter) - 0x1F1E6 + ord("a")) for letter in letters)
    pairs = re.findall("..?", codes)
    return "\U0001f3f3" * len(pairs) if all(pair in _FLAGS for pair in pairs) else ""


def _revealed(text: str, at: int) -> str:
    """A hidden character as the letter that it carries, apart from the visible text beside the hidden one."""
    code = ord(text[at])
    letter = chr(code - 0xE0000 if code < 0xE0100 else code - 0xE00F0)
    before = "" if _HIDDEN_BEFORE.search(text[max(0, at - LOOKBEHIND) : at]) else " "
    behind = "" if _HIDDEN_BEHIND.match(text, at + 1) else " "
    return before + letter + behind
