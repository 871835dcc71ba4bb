"""The table of workarounds and the comments in the code agree."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[3]
TABLE = (ROOT / "docs" / "workarounds.md").read_text()
SOURCES = [
    *(ROOT / "tritonllm" / "src").rglob("*.py"),
    *(ROOT / "operator" / "src").rglob("*.py"),
    *(ROOT / "model_repository").rglob("*.py"),
]
MARKER = re.compile(r"# workaround: (W\d+)\b")


def rows() -> list[tuple[str, set[Path], str]]:
    """Number, files and the release that ends it, for each row."""
    found = []
    for line in TABLE.splitlines():
        if line.startswith("| W"):
            number, where, _, ended = (cell.strip() for cell in line.strip("|").split("|"))
            found.append((number, {path(name) for name in re.findall(r"`([^`]+)`", where)}, ended))
    return found


def path(name: str) -> Path:
    inside = name.removeprefix("tritonllm/")
    return ROOT / (name if inside == name else f"tritonllm/src/tritonllm/{inside}")


def markers() -> dict[str, set[Path]]:
    """Files with a marker of each number."""
    found: dict[str, set[Path]] = defaultdict(set)
    for source in SOURCES:
        for number in MARKER.findall(source.read_text()):
            found[number].add(source)
    return found


def test_each_row_has_a_number_of_its_own_and_says_which_release_ends_it() -> None:
    numbers = [number for number, _, _ in rows()]
    assert numbers == [f"W{n}" for n in range(1, len(numbers) + 1)]
    assert all(ended for _, _, ended in rows())


def test_the_files_of_each_row_exist() -> None:
    missing = {str(file) for _, files, _ in rows() for file in files if not file.is_file()}
    assert all(files for _, files, _ in rows())
    assert not missing


def test_each_marker_in_the_code_has_a_row_that_names_its_file() -> None:
    named = {number: files for number, files, _ in rows()}
    found = markers()
    assert found
    assert {number: files - named.get(number, set()) for number, files in found.items()} == {
        number: set() for number in found
    }


def test_each_workaround_of_the_supervisor_is_marked_in_the_code() -> None:
    found = markers()
    unmarked = {
        f"{number} {file.name}"
        for number, files, _ in rows()
        for file in files
        if file.parent.name == "serve" and file not in found[number]
    }
    assert not unmarked
