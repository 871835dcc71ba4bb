"""API keys: what a key file may say, how it is read again, and that it never shows a secret."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tritonllm import cli, files
from tritonllm.gateway import keys

SECRET, OTHER_SECRET = "sk-Vx8Kq2mZr5Tn7Wp4", "sk-Bd3Hj6Lf9Ys1Gc0"
SHA256, OTHER_SHA256 = (hashlib.sha256(secret.encode()).hexdigest() for secret in (SECRET, OTHER_SECRET))


def problems(text: str, path: Path) -> str:
    (path / "keys.yaml").write_text(text)
    with pytest.raises(files.Invalid) as found:
        keys.load([path / "keys.yaml"])
    return str(found.value).replace(f"{path}/", "")


def test_a_key_is_found_by_its_secret(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text(f"team-a: {{sha256: {SHA256}}}\nteam-b: {{sha256: {OTHER_SHA256}}}\n")
    found = keys.load([tmp_path / "keys.yaml"])
    assert found.find(SECRET) == "team-a"
    assert found.find(OTHER_SECRET) == "team-b"


@pytest.mark.parametrize("secret", ["", "sk-", SECRET[:-1], SECRET + "x", SECRET.upper(), SHA256, "\udcff"])
def test_anything_else_is_no_key(secret: str) -> None:
    assert keys.Keys({"team-a": keys.Key(sha256=SHA256)}).find(secret) is None


def test_a_key_is_valid_for_all_endpoints_unless_it_names_some() -> None:
    assert keys.Key(sha256=SHA256).allows("chat")
    assert keys.Key(sha256=SHA256, models=["chat"]).allows("chat")
    assert not keys.Key(sha256=SHA256, models=["chat"]).allows("other")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {}", "keys.yaml: a.sha256: is required"),
        (f"a: {{sha256: {SHA256}, model: [chat]}}", "keys.yaml: a.model: unknown field `model`; did you mean `models`?"),
        (f"a: {{sha256: {SHA256}, models: []}}", "keys.yaml: a.models: must not be empty"),
        (f"a: {{sha256: {SHA256}, requestsPerMinute: 0}}", "keys.yaml: a.requestsPerMinute: must be at least 1, got 0"),
        (f"a: {{sha256: {SHA256}, tokensPerMinute: '9'}}", 'keys.yaml: a.tokensPerMinute: must be an integer, got "9"'),
        (f"7: {{sha256: {SHA256}}}", "keys.yaml: 7: the name must be a string; put it in quotes"),
        (f"'a b': {{sha256: {SHA256}}}", "keys.yaml: a b: a name has 1 to 63 letters, digits, `.`, `_` and `-`"),
        (f"a: {{sha256: {SHA256}}}\nb: {{sha256: {SHA256}}}", "keys.yaml: b.sha256: is the hash of `a` as well; each key needs a secret of its own"),
        ("[a]", "keys.yaml: must map the name of each key to its entry"),
        ("", "keys.yaml: contains 0 documents; expected exactly one"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_field(text: str, message: str, tmp_path: Path) -> None:
    assert problems(text, tmp_path) == message


@pytest.mark.parametrize(
    "text",
    [f"a: {{sha256: {SECRET}}}", f"a: {SECRET}", f"a: [{SECRET}]", f"a: {{sha256: [{SECRET}]}}", f"a: {{sha256: {SECRET}, key: {SECRET}}}"],
)  # fmt: skip
def test_a_secret_in_the_file_by_mistake_is_not_quoted(text: str, tmp_path: Path) -> None:
    assert SECRET[3:] not in problems(text, tmp_path)


def test_all_files_of_a_mounted_secret_are_read_and_all_problems_are_reported(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"a: {{sha256: {SHA256}}}")
    (tmp_path / "b.json").write_text(f'{{"b": {{"sha256": "{OTHER_SHA256}"}}}}')
    (tmp_path / "..data").mkdir()
    assert list(keys.load([tmp_path]).entries) == ["a", "b"]

    (tmp_path / "b.json").write_text(f'{{"a": {{"sha256": "{OTHER_SHA256}"}}, "c": {{}}}}')
    with pytest.raises(files.Invalid) as found:
        keys.load([tmp_path])
    assert [problem.path for problem in found.value.problems] == ["c.sha256", "a"]


def replace(file: Path, text: str) -> None:
    """Changes a file as Kubernetes and careful people do."""
    new = file.with_suffix(".new")
    new.write_text(text)
    os.replace(new, file)


def test_a_changed_file_is_used_and_a_broken_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "keys.yaml"
    path.write_text(f"a: {{sha256: {SHA256}}}")
    file = keys.KeyFile([path])
    changes: list[tuple[int, bool]] = []
    file.on_change = lambda changed: changes.append((len(changed.keys.entries), changed.valid))

    file.reload()
    assert changes == []

    replace(path, f"b: {{sha256: {OTHER_SHA256}}}")
    file.reload()
    assert (file.keys.find(SECRET), file.keys.find(OTHER_SECRET)) == (None, "b")

    replace(path, f"b: {{sha256: {OTHER_SECRET}}}")
    file.reload()
    file.reload()
    assert file.keys.find(OTHER_SECRET) == "b"
    assert "b.sha256: must be 64" in caplog.text
    assert OTHER_SECRET not in caplog.text

    path.unlink()
    file.reload()
    assert file.keys.find(OTHER_SECRET) == "b"

    path.write_text(f"a: {{sha256: {SHA256}}}")
    file.reload()
    assert changes == [(1, True), (1, False), (1, False), (1, True)]
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 2


def test_a_created_key_works_with_its_entry(tmp_path: Path) -> None:
    arguments = ["--models", "chat", "--models", "other", "--requests-per-minute", "60", "--tokens-per-minute", "1000", "--concurrent-requests", "2"]  # fmt: skip
    result = CliRunner().invoke(cli.app, ["keys", "create", "team-a", *arguments])
    secret = result.stderr.splitlines()[-1]
    assert secret.startswith("sk-")
    assert secret not in result.stdout

    (tmp_path / "keys.yaml").write_text(result.stdout)
    found = keys.load([tmp_path / "keys.yaml"])
    assert found.find(secret) == "team-a"
    entry = found.entries["team-a"]
    assert (entry.models, entry.requests_per_minute) == (["chat", "other"], 60)
    assert (entry.tokens_per_minute, entry.concurrent_requests) == (1000, 2)


def test_a_name_that_a_key_file_cannot_have_is_refused() -> None:
    result = CliRunner().invoke(cli.app, ["keys", "create", "team a"])
    assert result.exit_code == cli.MISTAKE
    assert "team a: a name has" in result.stderr
