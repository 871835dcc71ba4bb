"""One table of errors: what models send, what clients raise, and what the documents say are the same."""

from __future__ import annotations

from typing import get_args

import pytest

from tritonllm import client, errors, finish_reasons
from tritonllm.client import errors as client_errors


def test_every_code_has_a_row() -> None:
    assert set(errors.TABLE) == set(get_args(errors.Code))
    assert set(finish_reasons.MEANINGS) == set(get_args(finish_reasons.FinishReason))


@pytest.mark.parametrize("code", [code for code in errors.TABLE if code not in errors.GATEWAY_CODES])
def test_every_code_is_an_exception_of_the_client_with_its_meaning(code: errors.Code) -> None:
    kind = client_errors.CLASSES[code]
    assert getattr(client, kind.__name__) is kind
    assert kind.__doc__ == f"{errors.TABLE[code].meaning}."


def test_the_tree_in_the_documentation_of_the_client_is_that_of_its_classes() -> None:
    drawn = client_errors.__doc__ or ""
    for code, kind in client_errors.CLASSES.items():
        (line,) = [line for line in drawn.splitlines() if line.split()[-2:] == [kind.__name__, code]]
        depth = kind.__mro__.index(client.TritonLLMError)
        assert line.index("── ") == 4 * depth + 1


def test_a_queue_that_is_full_is_worth_a_retry_and_a_wrong_request_is_not() -> None:
    assert errors.TABLE["queue_full"].status == 429
    assert errors.TABLE["queue_full"].retry.startswith("yes")
    assert errors.TABLE["invalid_argument"].status == 400
    assert errors.TABLE["invalid_argument"].retry.startswith("no")


@pytest.mark.parametrize("code", errors.CODES)
def test_a_code_that_a_model_sends_can_be_read_back(code: errors.Code) -> None:
    error = errors.parse(f"in ensemble: {errors.RequestError(code, 'messages[0].role', 'must be: one')}")
    assert (error.code, error.field, error.message) == (code, "messages[0].role", "must be: one")


def test_a_code_that_only_a_client_finds_out_is_never_read_from_a_server() -> None:
    assert errors.parse("[timeout] too slow").code == "engine_failure"
