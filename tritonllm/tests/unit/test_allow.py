"""What an endpoint uses and its pool's owner does not permit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tritonllm import allow, api

COMMIT = "0123456789" * 4


def endpoint(*, args: dict[str, Any] | None = None, engine: str = "vllm", **model: object) -> api.LLMEndpoint:
    spec = {"pool": "llm", "guardrails": {}, "engine": {"type": engine, "args": args or {}}}
    return api.LLMEndpoint.model_validate(
        {
            "apiVersion": api.API_VERSION,
            "kind": api.KIND,
            "metadata": {"name": "chat"},
            "spec": spec | ({"model": model} if model else {}),
        }
    )


def fields(found: list[allow.Problem]) -> list[str]:
    return [path for path, _ in found]


def test_with_no_permission_a_model_of_the_volume_can_be_served_and_nothing_of_the_hub() -> None:
    assert allow.problems(endpoint(path="mine"), allow.Allow()) == []
    assert allow.problems(endpoint(engine="simulated", args={"reply": "echo"}), allow.Allow()) == []
    assert allow.problems(endpoint(repo="org/name"), allow.Allow()) == [
        (
            "spec.model.repo",
            "the pool does not permit the repository org/name at main; its owner can add it to allow.repos",
        )
    ]


@pytest.mark.parametrize(
    ("model", "field", "permission"),
    [
        ({"trustRemoteCode": True}, "spec.model.trustRemoteCode", {"remoteCode": True}),
        ({"allowPickle": True}, "spec.model.allowPickle", {"pickle": True}),
    ],
)
def test_what_can_run_code_needs_its_own_permission(
    model: dict[str, Any], field: str, permission: dict[str, Any]
) -> None:
    asked = endpoint(path="mine", **model)
    others = {"remoteCode": True, "pickle": True, "repos": ["*"], "engineArgs": ["*"]} | dict.fromkeys(
        permission, False
    )
    assert fields(allow.problems(asked, allow.Allow.model_validate(others))) == [field]
    assert allow.problems(asked, allow.Allow.model_validate(permission)) == []


@pytest.mark.parametrize(
    ("entry", "permitted"),
    [
        ("*", True),
        ("org/*", True),
        ("org/name", True),
        ("org/name@v1", True),
        ("*@v1", True),
        ("org/name@main", False),
        ("org/nam", False),
        ("org/other", False),
        ("Org/name", False),
        ("or/*", False),
    ],
)
def test_a_repository_is_permitted_by_name_organisation_or_revision(entry: str, permitted: bool) -> None:
    found = allow.problems(endpoint(repo="org/name", revision="v1"), allow.Allow(repos=[entry]))
    assert (found == []) == permitted


def test_a_repository_with_a_commit_permits_no_other_commit_of_it() -> None:
    pinned = allow.Allow(repos=[f"org/name@{COMMIT}"])
    assert allow.problems(endpoint(repo="org/name", revision=COMMIT), pinned) == []
    assert fields(allow.problems(endpoint(repo="org/name", revision="refs/pr/1"), pinned)) == [
        "spec.model.repo"
    ]


def test_every_problem_is_told_at_once() -> None:
    asked = endpoint(repo="org/name", trustRemoteCode=True, allowPickle=True, args={"worker_cls": "a.B"})
    assert len(allow.problems(asked, allow.Allow())) == 4
    assert allow.problems(asked, allow.EVERYTHING) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"remotecode": true}', "remotecode"),
        ('{"remoteCode": "yes"}', "remoteCode"),
        ('{"repos": ["name"]}', "repos[0]"),
        ("[]", "must be an object"),
        ("", "Invalid JSON"),
    ],
)
def test_permissions_that_are_not_understood_are_an_error_and_never_ignored(text: str, said: str) -> None:
    with pytest.raises(allow.Invalid, match=said.replace("[", r"\[")):
        allow.parse(text)


def test_a_file_that_cannot_be_read_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(allow.Invalid, match=r"nowhere\.json: cannot be read"):
        allow.load(tmp_path / "nowhere.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(allow.Invalid, match=r"bad\.json: "):
        allow.load(tmp_path / "bad.json")


def test_without_a_file_everything_is_permitted() -> None:
    assert allow.load(None) == allow.EVERYTHING
