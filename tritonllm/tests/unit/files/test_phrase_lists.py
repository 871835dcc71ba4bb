"""Lists of phrases come from ConfigMaps, or the endpoint is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ruamel.yaml

from tritonllm import api, files, guardrails
from tritonllm.render import config

HIDDEN = "projectfalcon"


def endpoint(**banned: Any) -> dict[str, Any]:
    rule = {"name": "words", "action": "Mask", "banned": banned}
    return {
        "apiVersion": api.API_VERSION,
        "kind": api.KIND,
        "metadata": {"name": "chat"},
        "spec": {"pool": "llm", "engine": {"type": "simulated"}, "guardrails": {"output": [rule]}},
    }


REF = {"name": "words", "key": "list.txt"}
PATH = "spec.guardrails.output[0].banned.configMapRef"


def expanded(text: Any, **banned: Any) -> tuple[api.LLMEndpoint | None, list[tuple[str, str]]]:
    config_map = {"metadata": {"name": "words"}, "data": {"list.txt": text}}
    return files.resource(endpoint(configMapRef=REF, **banned), config_maps={"words": config_map})


def phrases(found: api.LLMEndpoint | None) -> list[str]:
    assert found is not None
    rule = found.spec.guardrails.output[0].banned
    assert rule is not None
    assert rule.config_map_ref is None
    return rule.phrases


def test_each_line_is_a_phrase_but_comments_and_empty_lines() -> None:
    found, problems = expanded("# ours\n\nalpha\r\n  beta gamma  \n#delta\nalpha")
    assert problems == []
    assert phrases(found) == ["alpha", "beta gamma"]


def test_a_byte_order_mark_is_no_part_of_the_first_phrase() -> None:
    assert phrases(expanded("\ufeffalpha")[0]) == ["alpha"]


def test_a_list_comes_after_the_phrases_of_the_rule_and_keeps_its_other_fields() -> None:
    found, _ = expanded("beta\nalpha", phrases=["alpha"], match="Substring")
    assert phrases(found) == ["alpha", "beta"]
    assert found is not None
    assert guardrails.compile(found.spec.guardrails.output).scan("xbetax").text == "x[REDACTED]x"


def test_the_hashes_are_those_of_the_same_phrases_in_the_endpoint() -> None:
    found, _ = expanded("alpha\nbeta")
    inline, _ = files.resource(endpoint(phrases=["alpha", "beta"]))
    other, _ = expanded("alpha\ngamma")
    assert found is not None
    assert inline is not None
    assert other is not None
    assert [str(model) for model in config.models(found)] == [str(model) for model in config.models(inline)]
    assert [str(model) for model in config.models(found)] != [str(model) for model in config.models(other)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no phrase"),
        ("# nothing\n \n", "has no phrase"),
        (None, "there is no key `list.txt` of ConfigMap `words`"),
        (f"alpha\n{HIDDEN * 30}", "line 2: a phrase must have at most 256 characters"),
        (f"{HIDDEN}\n\u200b\n\u200b\n\u200b\n\u200b", "line 2, 3, 4 and 1 more: "),
        ("\n".join(f"{HIDDEN}{number}" for number in range(10_001)), "the maximum is 10000"),
    ],
    ids=["empty", "comments", "no-key", "long", "folded-away", "many"],
)
def test_a_list_that_cant_be_used_is_refused_without_its_text(text: Any, said: str) -> None:
    found, problems = expanded(text)
    assert found is None
    ((path, message),) = problems
    assert path == PATH
    assert said in message
    assert "`words`" in message
    assert "`list.txt`" in message
    assert HIDDEN not in message


def test_a_list_of_the_maximum_length_is_taken() -> None:
    found, problems = expanded("\n".join(f"word{number}" for number in range(10_000)))
    assert problems == []
    assert len(phrases(found)) == 10_000


def test_the_lists_of_an_endpoint_have_the_maximum_together() -> None:
    given = endpoint(configMapRef=REF)
    rules = given["spec"]["guardrails"]["output"]
    rules.append(rules[0] | {"name": "again"})
    text = "\n".join(f"word{number}" for number in range(5_001))
    found, problems = files.resource(given, config_maps={"words": {"data": {"list.txt": text}}})
    assert found is None
    ((path, message),) = problems
    assert path == "spec.guardrails.output[1].banned.configMapRef"
    assert "the maximum is 10000 for all rules" in message


def test_a_missing_config_map_is_named_with_what_it_needs() -> None:
    found, problems = files.resource(endpoint(configMapRef=REF), config_maps={})
    assert found is None
    assert problems[0][0] == PATH
    assert "no ConfigMap `words`" in problems[0][1]
    assert "`tritonllm.io/pool`" in problems[0][1]


def test_a_list_that_nobody_read_is_never_an_empty_one() -> None:
    assert files.resource(endpoint(phrases=["a"], configMapRef=REF))[0] is None
    kept, _ = files.resource(endpoint(phrases=["a"], configMapRef=REF), deep=False)
    assert kept is not None
    with pytest.raises(guardrails.PolicyError, match="was not read"):
        guardrails.compile(kept.spec.guardrails.output)


@pytest.mark.parametrize("banned", [{}, {"match": "Word"}])
def test_a_rule_without_phrases_and_list_is_refused(banned: dict[str, Any]) -> None:
    _, problems = files.resource(endpoint(**banned))
    assert problems == [
        ("spec.guardrails.output[0].banned", "`phrases` or `configMapRef` is required"),
    ]


def test_a_file_has_the_config_map_beside_the_endpoint(tmp_path: Path) -> None:
    file = tmp_path / "chat.yaml"
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "words"},
        "data": {"list.txt": "alpha"},
    }
    with file.open("w") as out:
        ruamel.yaml.YAML(typ="safe", pure=True).dump_all([endpoint(configMapRef=REF), config_map], out)
    (found,) = files.load([file])
    assert phrases(found) == ["alpha"]
    assert files.load_policy(file) == found.spec.guardrails
    (kept,) = files.load([file], deep=False, keep_references=True)
    assert kept.spec.guardrails.output[0].banned is not None
    assert kept.spec.guardrails.output[0].banned.config_map_ref is not None


def test_a_file_without_the_config_map_is_invalid(tmp_path: Path) -> None:
    file = tmp_path / "chat.yaml"
    with file.open("w") as out:
        ruamel.yaml.YAML(typ="safe", pure=True).dump(endpoint(configMapRef=REF), out)
    with pytest.raises(files.Invalid, match=r"banned\.configMapRef: there is no ConfigMap `words`"):
        files.load([file], deep=False)
