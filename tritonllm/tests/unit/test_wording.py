"""Users read the field's words: no coined terms, and no phrases that have to be read twice."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = [ROOT / "tritonllm" / "src", ROOT / "operator" / "src", ROOT / "tools"]
MODULES = [path for root in SOURCES for path in sorted(root.rglob("*.py"))]
TEXTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "charts").glob("*/*.md")),
    *sorted((ROOT / "charts").glob("*/values.yaml")),
    *sorted(path for path in (ROOT / "charts").glob("*/templates/**/*") if path.is_file()),
    *sorted((ROOT / "examples").glob("*.yaml")),
    *MODULES,
]

PHRASES = re.compile(
    r"\b(anew|fewest|likeliest|most tokens|nobody|somebody|whoever|lets? go of|is told so)\b"
    r"|(?<!there )\bis none\b",
    re.IGNORECASE,
)
TERMS = {
    "board", "doorbell", "gate", "growing", "guardian", "incarnation", "leftovers", "outbox", "patience",
    "patient", "prompter", "ringer", "watcher",
}  # fmt: skip


def prose(path: Path) -> str:
    """What people read of a file: of Python, the strings and comments."""
    text = path.read_text()
    if path.suffix == ".py":
        text = "\n".join(
            token.string
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type not in (tokenize.NAME, tokenize.OP, tokenize.NUMBER)
        )
    return " ".join(text.split())


def names(path: Path) -> Iterator[str]:
    """The words that the identifiers of a module are made of."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.NAME:
            yield from re.sub(r"(?<=[a-z])(?=[A-Z])", "_", token.string).lower().split("_")


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_sentence_has_to_be_read_twice(path: Path) -> None:
    text = prose(path)
    found = [text[max(0, match.start() - 40) : match.end() + 40] for match in PHRASES.finditer(text)]
    assert found == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_identifier_is_a_coined_term(path: Path) -> None:
    assert TERMS.isdisjoint(names(path))


def test_the_search_finds_what_it_is_for(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("Most\ntokens of an answer; where the URL is none, or there is none")
    assert [match[0] for match in PHRASES.finditer(prose(tmp_path / "page.md"))] == ["Most tokens", "is none"]
    (tmp_path / "module.py").write_text("class OutboxThread:\n    is_open = None\n")
    assert "outbox" in set(names(tmp_path / "module.py"))
