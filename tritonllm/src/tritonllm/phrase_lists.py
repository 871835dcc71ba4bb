"""Lists of phrases in ConfigMaps: each `banned.configMapRef` of an endpoint becomes phrases of its rule. Pure.

A list has one phrase a line. Empty lines, and lines that begin with `#`, are no phrases. Messages name the lines and never
have their text: who reads the status of an endpoint need not be who can read the ConfigMap.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tritonllm import api, rules
from tritonllm.rules import banned, kinds

ConfigMaps = Mapping[str, Mapping[str, Any]]
"""ConfigMaps by name, as the API server or a file has them."""

_SHOWN = 3


def expand(
    endpoint: api.LLMEndpoint, config_maps: ConfigMaps
) -> tuple[api.LLMEndpoint, list[tuple[str, str]]]:
    """The endpoint with the phrases themselves where it names ConfigMaps.

    Args:
        endpoint: the endpoint.
        config_maps: those that it may use.

    Returns:
        The endpoint, and the lists that can't be used: pairs of a field's path and what is wrong.
    """
    problems: list[tuple[str, str]] = []
    expanded: dict[str, list[rules.Rule]] = {}
    for direction in ("input", "output"):
        given: list[rules.Rule] = getattr(endpoint.spec.guardrails, direction)
        expanded[direction] = []
        for index, rule in enumerate(given):
            if rule.banned is not None and rule.banned.config_map_ref is not None:
                whole, problem = _expanded(rule.banned, rule.banned.config_map_ref, config_maps)
                rule = rule.model_copy(update={"banned": whole})
                if problem:
                    path = f"spec.guardrails.{direction}[{index}].banned.configMapRef"
                    problems.append((path, problem))
            expanded[direction].append(rule)
    if all(expanded[direction] == getattr(endpoint.spec.guardrails, direction) for direction in expanded):
        return endpoint, problems
    policy = endpoint.spec.guardrails.model_copy(update=expanded)
    return endpoint.model_copy(
        update={"spec": endpoint.spec.model_copy(update={"guardrails": policy})}
    ), problems


def _expanded(
    rule: banned.Banned, named: banned.ConfigMapRef, config_maps: ConfigMaps
) -> tuple[banned.Banned, str]:
    """The rule with its list, and why the list can't be used, if it can't."""
    if named.name not in config_maps:
        return rule, (
            f"there is no ConfigMap `{named.name}` for phrases; in a cluster, it must be in the endpoint's namespace and have"
            f" the labels `app.kubernetes.io/component: phrases` and `{api.GROUP}/pool`; in a file, it is a document"
            " beside the endpoint"
        )
    text = (config_maps[named.name].get("data") or {}).get(named.key)
    place = f"key `{named.key}` of ConfigMap `{named.name}`"
    if not isinstance(text, str):
        return rule, f"there is no {place} in its `data`"
    lines = _lines(text)
    if not lines:
        return rule, f"{place} has no phrase; write one a line"
    if unusable := [number for number, phrase in lines.items() if not _usable(phrase)]:
        shown = ", ".join(map(str, unusable[:_SHOWN]))
        more = f" and {len(unusable) - _SHOWN} more" if len(unusable) > _SHOWN else ""
        return rule, (
            f"{place}: line {shown}{more}: a phrase must have at most {kinds.MAX_CHARACTERS} characters, and a letter or a"
            " sign that is left when it is folded"
        )
    phrases = list(dict.fromkeys((*rule.phrases, *lines.values())))
    if len(phrases) > banned.MAX_PHRASES:
        return (
            rule,
            f"{place}: the rule has {len(phrases)} phrases with it; the maximum is {banned.MAX_PHRASES}",
        )
    return rule.model_copy(update={"phrases": phrases, "config_map_ref": None}), ""


def _lines(text: str) -> dict[int, str]:
    """The phrases by the number of their line."""
    # Editors on Windows write a byte order mark; lines of theirs end in a carriage return, which is stripped.
    stripped = enumerate((line.strip() for line in text.removeprefix("\ufeff").split("\n")), start=1)
    return {number: line for number, line in stripped if line and not line.startswith("#")}


def _usable(phrase: str) -> bool:
    from tritonllm.guardrails import trie

    return len(phrase) <= kinds.MAX_CHARACTERS and bool(trie.normalize(phrase))
