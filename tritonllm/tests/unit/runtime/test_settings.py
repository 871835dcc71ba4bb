"""What an endpoint adds to a request and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tritonllm import api, errors
from tritonllm.render import canonical
from tritonllm.runtime import requests, screening, settings

MASK = {"output": [{"name": "x", "banned": {"phrases": ["falcon"]}, "action": "Mask"}]}


def endpoint(**parts: object) -> settings.Settings:
    values = {"prompt": {}, "sampling": {}, "limits": {}, "capacity": 4, "prompt_characters": 100} | parts
    return settings.Settings.load(canonical.dumps(values))


def policy(rules: Mapping[str, object]) -> screening.EndpointPolicy:
    return screening.EndpointPolicy.load(canonical.pack(rules))


def asked(**values: str | bool) -> requests.Request:
    parameters = values.pop("parameters", {})
    return requests.parse({"text_input": "Hi", **values}, parameters)  # pyright: ignore[reportArgumentType]


def test_settings_of_an_older_operator_are_refused_with_what_they_lack_and_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"lacks `prompt`, .* upgrade the operator"):
        settings.Settings.load("{}")


def test_a_request_wins_over_the_endpoints_defaults() -> None:
    served = endpoint(sampling={"defaults": {"temperature": 0.5, "max_tokens": 9}})
    request = served.admit(asked(parameters={"max_tokens": 3}), policy({}))  # pyright: ignore[reportArgumentType]
    assert request.sampling.given() == {"temperature": 0.5, "max_tokens": 3}


def test_an_answer_is_limited_even_where_nobody_says_so() -> None:
    request = endpoint(sampling={"maxTokensLimit": 20}).admit(asked(), policy({}))
    assert request.sampling.max_tokens == 20


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"sampling_parameters": '{"max_tokens": 5000}'}, "sampling_parameters.max_tokens"),
        ({"sampling_parameters": '{"logprobs": 1}'}, "sampling_parameters.logprobs"),
        ({"return_logprobs": True}, "return_logprobs"),
        ({"text_input": "x" * 101}, "text_input"),
        ({"exclude_input_in_output": False, "stream": True}, "exclude_input_in_output"),
    ],
)
def test_what_an_endpoint_does_not_give_is_refused(values: dict[str, str | bool], field: str) -> None:
    with pytest.raises(errors.RequestError) as caught:
        endpoint().admit(asked(**values), policy(MASK))
    assert caught.value.field == field


def test_log_probabilities_are_given_where_nothing_has_to_be_hidden() -> None:
    assert endpoint().admit(asked(return_logprobs=True), policy({})).wants("logprobs")


def test_a_chat_endpoint_makes_the_prompt_the_users_turn() -> None:
    served = endpoint(prompt={"format": "Chat", "system": "Be brief."})
    composed = served.compose(asked())
    assert composed.text is None
    assert composed.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]


def test_a_conversation_keeps_its_own_system_turn() -> None:
    served = endpoint(prompt={"format": "Chat", "system": "Be brief."})
    request = requests.parse({"messages": '[{"role": "system", "content": "Rhyme."}]'}, {})
    assert served.compose(request).messages == request.messages


def test_a_raw_endpoint_passes_the_prompt_untouched() -> None:
    assert endpoint().compose(asked()).text == "Hi"


def test_a_policy_survives_its_way_through_the_config() -> None:
    loaded = policy(MASK)
    assert loaded.rules == api.Guardrails.model_validate(MASK)
    assert loaded.input is None
    assert loaded.output is not None
