"""What the documents promise exists: files behind links, commands, options, and codes in tables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.core
import typer.main

from tritonllm import cli, errors, serve
from tritonllm.runtime import metric_names
from tritonllm.weights import failures

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


GROUP = typer.main.get_command(cli.app)
assert isinstance(GROUP, typer.core.TyperGroup)
# With those of other packages, such as the operator's.
CONTEXT = typer.Context(GROUP)
COMMANDS = {name: GROUP.get_command(CONTEXT, name) for name in GROUP.list_commands(CONTEXT)}


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(page: Path, language: str) -> Iterator[str]:
    yield from (body for found, body in FENCE.findall(page.read_text()) if found == language)


def commands(page: Path, program: str) -> Iterator[list[str]]:
    """Every use of a program in a page, in shell blocks and in code spans, split into words."""
    text = page.read_text()
    lines = [line for body in blocks(page, "bash") for line in body.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    for line in lines:
        for part in line.split("|"):
            if part.split()[:1] == [program]:
                yield shlex.split(part, comments=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{target} is not there"
        assert not anchor or anchor in anchors(place), f"{target} has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_is_named_exists_with_its_options(page: Path) -> None:
    for words in commands(page, "tritonllm"):
        if len(words) == 1:
            continue
        found, rest = COMMANDS.get(words[1]), words[2:]
        if isinstance(found, typer.core.TyperGroup) and rest:
            found, rest = found.commands.get(rest[0]), rest[1:]
        assert found is not None, f"there is no `{' '.join(words)}`"
        known = {option for parameter in found.params for option in parameter.opts}
        for word in rest:
            assert not word.startswith("-") or word in known, f"`{' '.join(words)}` has no {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands(page, "make"):
        assert set(words[1:]) <= targets, f"the Makefile has no `{' '.join(words)}`"


def test_the_readme_names_every_command() -> None:
    used = [words[1:] for words in commands(ROOT / "README.md", "tritonllm") if len(words) > 1]
    assert set(COMMANDS) <= {words[0] for words in used}
    weights = COMMANDS["weights"]
    assert isinstance(weights, typer.core.TyperGroup)
    assert set(weights.commands) <= {words[1] for words in used if words[0] == "weights"}


def test_every_reason_why_there_are_no_weights_is_explained() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    for kind in failures.ALL:
        assert f"| `{kind.reason}` | {kind.exit_code} |" in text


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md"])
def test_every_error_code_is_explained(page: str) -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", (ROOT / page).read_text(), re.MULTILINE))
    assert set(errors.CODES) <= rows


def test_every_metric_is_explained() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for family in (*metric_names.PIPELINE, *metric_names.ENGINE):
        assert f"| `{family.name}` | {family.kind.lower()} |" in text
        assert family.description in text


def test_every_metric_that_is_named_exists() -> None:
    known = {family.name for family in (*metric_names.PIPELINE, *metric_names.ENGINE)}
    for page in PAGES:
        for name in re.findall(
            # The operator's own are its own tests' matter.
            r"\btritonllm_(?!operator_)\w+_(?:total|seconds|ratio|running|waiting|capacity)\b",
            page.read_text(),
        ):
            assert name in known, f"{page.name} names {name}"


def test_decisions_are_numbered_without_a_gap_and_fit_a_page() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    for number, record in enumerate(records, start=1):
        assert record.name.startswith(f"{number:04}-")
        assert record.read_text().startswith(f"# {number}. ")
        assert len(record.read_text().splitlines()) <= 40


def test_the_time_to_stop_is_the_one_that_the_code_keeps() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    assert f"Allow {serve.STOP_SECONDS:.0f} s more than `--drain-seconds`" in text
    assert f"sleep + `--drain-seconds` + {serve.STOP_SECONDS:.0f}." in text
