"""What a failure of the guardrail itself does to a request."""

from __future__ import annotations

from typing import Any

import pytest

from tritonllm import errors, guardrails
from tritonllm.render import canonical
from tritonllm.runtime import answer, backend, requests, screening

RULE = {"name": "bird", "banned": {"phrases": ["falcon"]}, "action": "Mask"}


def policy(failure_policy: str) -> screening.EndpointPolicy:
    return screening.EndpointPolicy.load(
        canonical.pack({"failurePolicy": failure_policy, "input": [RULE], "output": [RULE]})
    )


def fails(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("broken")


def test_closed_an_input_that_cannot_be_judged_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardrails.Policy, "scan_steps", fails)
    with pytest.raises(errors.RequestError) as caught:
        screening.screen(requests.parse({"text_input": "Hi"}, {}), policy("Closed"))
    assert caught.value.code == "guardrail_failure"


def test_open_an_input_that_cannot_be_judged_passes_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardrails.Policy, "scan_steps", fails)
    screened = screening.screen(requests.parse({"text_input": "Hi"}, {}), policy("Open"))
    assert (screened.request.text, screened.blocked, screened.failures) == ("Hi", False, 1)


def update(text: str, ends: str | None = None) -> backend.Update:
    return backend.Update([text], [ends], 3, [1])


def test_closed_an_answer_that_cannot_be_judged_is_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    growing = answer.Answer(1, policy("Closed"))
    growing.update(update("a fal"))
    monkeypatch.setattr(guardrails.Stream, "_advance", fails)
    with pytest.raises(errors.RequestError, match="guardrail_failure"):
        growing.update(update("con"))


def test_open_an_answer_that_cannot_be_judged_goes_on_with_nothing_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    growing = answer.Answer(1, policy("Open"))
    request = requests.parse({"text_input": "Hi", "stream": True}, {})
    growing.update(update("a fal"))
    pieces = growing.outputs(request, last=False)["text_output"]
    monkeypatch.setattr(guardrails.Stream, "_take", fails)
    growing.update(update("se"))
    growing.update(update(" one", ends="stop"))
    pieces += growing.outputs(request, last=True)["text_output"]
    assert "".join(pieces) == "a false one"
    assert growing.failures == 1


def test_rules_are_not_applied_to_the_end_for_a_request_that_has_ended() -> None:
    asked = iter([False, False, True])
    text = "a word " * 10_000
    with pytest.raises(errors.RequestError, match="cancelled"):
        screening.screen(requests.parse({"text_input": text}, {}), policy("Open"), lambda: next(asked))
    assert next(asked, None) is None
