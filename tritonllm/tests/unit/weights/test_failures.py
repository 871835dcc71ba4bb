"""What scripts and operators rely on: each failure has a code and a name of its own."""

from __future__ import annotations

from tritonllm.weights import failures


def test_every_failure_has_an_exit_code_of_its_own() -> None:
    assert sorted(kind.exit_code for kind in failures.ALL) == list(range(20, 30))
    assert set(failures.ALL) == set(failures.Failure.__subclasses__())


def test_reasons_are_what_conditions_want() -> None:
    assert [kind.reason for kind in failures.ALL] == [
        "GatedRepo",
        "RepositoryNotFound",
        "RevisionNotFound",
        "Unauthorized",
        "RateLimited",
        "HubUnreachable",
        "DiskFull",
        "NotWritable",
        "Corrupt",
        "NoSafetensors",
    ]


def test_a_failure_is_final_unless_it_says_otherwise() -> None:
    failure = failures.DiskFull("no")
    assert (str(failure), failure.retry, failure.after_seconds) == ("no", False, 0)
