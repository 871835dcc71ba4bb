"""What is told of several endpoints' weights: to people, to Kubernetes, to a shell."""

from __future__ import annotations

import json
from pathlib import Path

import hypothesis
from hypothesis import strategies as st

from tritonllm.weights import failures, report, sync

COMMIT = "c" * 40


def complete(name: str) -> report.Result:
    return report.Result(name, "org/model", sync.Published(Path("/w"), COMMIT, 16_060_000_000, True))


def failed(
    name: str, message: str = "it can't", kind: type[failures.Failure] = failures.Corrupt
) -> report.Result:
    return report.Result(name, "org/model", problem=report.Problem(kind.reason, message, kind.exit_code))


def test_all_complete_is_done() -> None:
    assert (
        report.exit_code([complete("a"), report.Result("b", note="the simulated engine needs no weights")])
        == 0
    )
    assert report.exit_code([]) == 0


def test_the_first_failure_decides_the_exit_code() -> None:
    results = [complete("a"), failed("b", kind=failures.DiskFull), failed("c", kind=failures.GatedRepo)]
    assert report.exit_code(results) == 26
    assert report.exit_code(results, report.Problem("InternalError", "?", 1)) == 1


def test_every_reason_has_an_exit_code_of_its_own() -> None:
    assert sorted(kind.exit_code for kind in failures.ALL) == list(range(20, 30))


def test_the_message_names_each_endpoint_and_failures_come_first() -> None:
    results = [
        complete("chat"),
        failed("other", "locked", failures.GatedRepo),
        report.Result("pretend", note="no"),
    ]
    assert report.message(results) == (
        '{"endpoints":{"other":{"reason":"GatedRepo","message":"locked"},'
        f'"chat":{{"commit":"{COMMIT}"}},"pretend":{{}}}}}}'
    )


def test_a_problem_of_the_command_stands_beside_the_endpoints() -> None:
    problem = report.Problem("InvalidSpec", "chat.yaml: is empty", 2)
    assert json.loads(report.message([], problem)) == {
        "reason": "InvalidSpec",
        "message": "chat.yaml: is empty",
        "endpoints": {},
    }


def test_long_messages_are_shortened_before_endpoints_are_left_out() -> None:
    results = [failed(f"endpoint-{number}", "é" * 3000) for number in range(20)]
    text = report.message(results)
    found = json.loads(text)
    assert len(found["endpoints"]) == 20
    assert "more" not in found
    assert all(said["message"].endswith("é…") for said in found["endpoints"].values())
    assert report.MOST_BYTES - 100 < len(text.encode()) <= report.MOST_BYTES


def test_what_has_no_place_is_counted_and_is_what_went_well() -> None:
    results = [*(complete(f"good-{number}") for number in range(100)), failed("bad", "a" * 5000)]
    found = json.loads(report.message(results))
    assert next(iter(found["endpoints"])) == "bad"
    assert found["more"] == 101 - len(found["endpoints"]) > 0


ENDPOINTS = st.lists(
    st.tuples(
        st.from_regex(r"[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?", fullmatch=True),
        st.one_of(st.none(), st.text(max_size=200).map(lambda text: text * 20), st.just("\udcff\0\n" * 500)),
    ),
    max_size=120,
    unique_by=lambda pair: pair[0],
)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(ENDPOINTS, st.one_of(st.none(), st.text()))
def test_the_message_is_always_one_line_of_json_that_fits(
    given: list[tuple[str, str | None]], whole: str | None
) -> None:
    results = [complete(name) if text is None else failed(name, text) for name, text in given]
    problem = None if whole is None else report.Problem("InternalError", whole, 1)
    text = report.message(results, problem)
    assert len(text.encode()) <= report.MOST_BYTES
    assert "\n" not in text
    found = json.loads(text)
    assert len(found["endpoints"]) + found.get("more", 0) == len(results)
    reasons = [said.get("reason") for said in found["endpoints"].values()]
    assert reasons == sorted(reasons, key=lambda reason: reason is None)
    assert ("reason" in found) == (problem is not None)


def test_people_read_where_it_is_or_why_not() -> None:
    assert report.line(complete("chat")) == (
        f"chat: org/model at {COMMIT} is downloaded and verified (16.06 GB in /w)"
    )
    assert report.line(failed("chat", "it is locked", failures.GatedRepo)) == "chat: GatedRepo: it is locked"
    assert report.line(report.Result("chat", note="nothing to do")) == "chat: nothing to do"


def test_a_bug_is_told_without_its_own_words() -> None:
    problem = report.internal(ValueError("hf_secret"))
    assert (problem.reason, problem.exit_code) == ("InternalError", 1)
    assert "hf_secret" not in problem.message
