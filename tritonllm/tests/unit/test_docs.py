"""The documents agree with the code: links, commands, options, tables of codes, and numbers."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.core
import typer.main

from tritonllm import cli, errors, finish_reasons, serve
from tritonllm.client import errors as client_errors
from tritonllm.gateway import bodies, connections, keys, reading, sse
from tritonllm.gateway import metrics as gateway_metrics
from tritonllm.guardrails import matcher
from tritonllm.runtime import dispatcher, engine, engine_client, metric_names, threads
from tritonllm.serve import triton, watch
from tritonllm.weights import failures, report

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
            # A group can have a command that needs no name, such as that of `tritonllm bench chat.yaml`.
            named = found.commands.get(rest[0])
            default = getattr(found, "default", lambda _: "")(rest)
            found, rest = (named, rest[1:]) if named else (found.commands.get(default), rest)
        assert found is not None, f"there is no `{' '.join(words)}`"
        known = {option for parameter in found.params for option in parameter.opts}
        for word in rest:
            assert not word.startswith("-") or word in known, f"`{' '.join(words)}` has no {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands(page, "make"):
        named = {word for word in words[1:] if "=" not in word}
        assert named <= targets, f"the Makefile has no `{' '.join(words)}`"


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


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table whose first column has this heading, without the heading itself."""
    _, _, table = (ROOT / page).read_text().partition(f"\n| {heading} |")
    lines = table.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines]


def test_the_readme_says_of_every_error_what_it_means_and_whether_a_retry_helps() -> None:
    expected = [[f"`{code}`", errors.TABLE[code].meaning, errors.TABLE[code].retry] for code in errors.CODES]
    assert rows("README.md", "code") == expected


def test_the_operations_page_says_of_every_error_what_it_means_and_how_the_client_raises_it() -> None:
    expected = [
        [f"`{code}`", f"`{client_errors.CLASSES[code].__name__}`", errors.TABLE[code].meaning]
        for code in errors.CODES
    ]
    assert [row[:3] for row in rows("docs/operations.md", "code")] == expected


def test_every_finish_reason_is_explained() -> None:
    expected = [[f"`{reason}`", meaning] for reason, meaning in finish_reasons.MEANINGS.items()]
    assert [row[:2] for row in rows("docs/operations.md", "`finish_reason`")] == expected
    readme = (ROOT / "README.md").read_text()
    assert all(f"`{reason}`" in readme for reason in finish_reasons.MEANINGS)


def test_every_metric_is_explained() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for family in (*metric_names.PIPELINE, *metric_names.ENGINE):
        assert f"| `{family.name}` | {family.kind.lower()} |" in text
        assert family.description in text


def test_every_metric_of_the_gateway_is_explained() -> None:
    table = rows("docs/gateway.md", "metric")
    assert [(row[0], row[3]) for row in table] == [
        (f"`{name}`", text) for name, text in gateway_metrics.FAMILIES.items()
    ]


def test_every_metric_that_is_named_exists() -> None:
    known = {family.name for family in (*metric_names.PIPELINE, *metric_names.ENGINE)}
    known |= set(gateway_metrics.FAMILIES)
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


LONGEST_CONNECTION = triton.CONNECTION_AGE_SECONDS * (1 + triton.CONNECTION_AGE_VARIES)
RESTARTS = inspect.signature(watch.RestartBudget).parameters
RESTART_MINUTES = RESTARTS["window"].default / 60

# Numbers in the documents that are constants in the code: a page, and the sentence as it has to be.
SENTENCES = (
    ("architecture", f"at most {RESTARTS['limit'].default} times in {RESTART_MINUTES:.0f} minutes, with growing"),
    ("architecture", f"connections are closed every {triton.CONNECTION_AGE_SECONDS:.0f} s"),
    ("architecture", f"pool has {triton.THREAD_POOL_SIZE} threads"),
    ("architecture", f"requests that arrive within {engine_client.LEASE_SECONDS:.0f} s share a lease"),
    ("architecture", f"asked every {dispatcher.CANCELLATION_SECONDS} s whether"),
    ("architecture", f"stuck for {threads.STALL_SECONDS:.0f} s"),
    ("architecture", f"no step for {engine.STALL_SECONDS:.0f} s"),
    ("guardrails", f"or {matcher.LONGEST_INVISIBLE} invisible characters in a row"),
    ("guardrails", f"more than {matcher.LONGEST_GAP} characters of a gap"),
    ("operations", f"Allow {serve.STOP_SECONDS:.0f} s more than `--drain-seconds`"),
    ("operations", f"sleep + `--drain-seconds` + {serve.STOP_SECONDS:.0f}."),
    ("operations", f"are told every {triton.CONNECTION_AGE_SECONDS:.0f} s to reconnect"),
    ("operations", f"waits for that up to {LONGEST_CONNECTION:.0f} s"),
    ("operations", f"restarted {RESTARTS['limit'].default} times within {RESTART_MINUTES:.0f} minutes"),
    ("operations", f"in at most {report.MOST_BYTES} bytes"),
    ("gateway", f"read again within {keys.RELOAD_SECONDS:.0f} s"),
    ("gateway", f"| body | {bodies.MAX_BYTES >> 20} MiB |"),
    ("gateway", f"parts and their fields | {reading.MAX_VALUES:,} |"),
    ("gateway", f"a body arrives | {bodies.TIMEOUT_SECONDS:.0f} s |"),
    ("gateway", f"first line and headers | {connections.HEADER_BYTES >> 10} KiB |"),
    ("gateway", f"the headers arrive | {connections.HEADER_SECONDS:.0f} s |"),
    ("gateway", f"nothing of its answer | {connections.WRITE_SECONDS:.0f} s |"),
    ("gateway", f"between requests | {connections.KEEP_ALIVE_SECONDS} s |"),
    ("gateway", f"silent responses above {sse.KEEP_ALIVE_SECONDS:.0f} s"),
)  # fmt: skip


@pytest.mark.parametrize(("page", "sentence"), SENTENCES)
def test_a_number_in_a_document_is_that_of_the_code(page: str, sentence: str) -> None:
    assert sentence in " ".join((ROOT / "docs" / f"{page}.md").read_text().split())
