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

    Its rules with lists have `MAX_PHRASES` together: else a few names would make phrases that take long to compile.

    Args:
        endpoint: the endpoint.
        config_maps: those that it may use.

    Returns:
        The endpoint, and the lists that can't be used: pairs of a field's path and what is wrong.
    """
    problems: list[tuple[str, str]] = []
    expanded: dict[str, list[rules.Rule]] = {}
    room = banned.MAX_PHRASES
    for direction in ("input", "output"):
        expanded[direction] = []
        for index, rule in enumerate(getattr(endpoint.spec.guardrails, direction)):
            if rule.banned is not None and rule.banned.config_map_ref is not None:
                try:
                    whole = _expanded(rule.banned, rule.banned.config_map_ref, config_maps, room)
                    room -= len(whole.phrases)
                    rule = rule.model_copy(update={"banned": whole})
                except _Unusable as error:
                    path = f"spec.guardrails.{direction}[{index}].banned.configMapRef"
                    problems.append((path, str(error)))
            expanded[direction].append(rule)
    if room == banned.MAX_PHRASES:
        return endpoint, problems
    policy = endpoint.spec.guardrails.model_copy(update=expanded)
    spec = endpoint.spec.model_copy(update={"guardrails": policy})
    return endpoint.model_copy(update={"spec": spec}), problems


class _Unusable(ValueError):
    """A list that can't be used, and why."""


def _expanded(
    rule: banned.Banned, named: banned.ConfigMapRef, config_maps: ConfigMaps, room: int
) -> banned.Banned:
    """The rule with its list, which may have so many phrases with the rule's own."""
    if named.name not in config_maps:
        raise _Unusable(
            f"there is no ConfigMap `{named.name}` for phrases; in a cluster, it must be in the endpoint's namespace and have"
            f" the labels `app.kubernetes.io/component: phrases` and `{api.GROUP}/pool`; in a file, it is a document"
            " beside the endpoint"
        )
    text = (config_maps[named.name].get("data") or {}).get(named.key)
    place = f"key `{named.key}` of ConfigMap `{named.name}`"
    if not isinstance(text, str):
        raise _Unusable(f"there is no {place} in its `data`")
    lines = _lines(text)
    if not lines:
        raise _Unusable(f"{place} has no phrase; write one a line")
    phrases = list(dict.fromkeys((*rule.phrases, *lines.values())))
    if len(phrases) > room:
        raise _Unusable(
            f"{place}: the rule has {len(phrases)} phrases with it; the maximum is {banned.MAX_PHRASES} for all rules of an"
            " endpoint with lists"
        )
    if unusable := [number for number, phrase in lines.items() if not _usable(phrase)]:
        shown = ", ".join(map(str, unusable[:_SHOWN]))
        more = f" and {len(unusable) - _SHOWN} more" if len(unusable) > _SHOWN else ""
        raise _Unusable(
            f"{place}: line {shown}{more}: a phrase must have at most {kinds.MAX_CHARACTERS} characters, and a letter or a"
            " sign that is left when it is folded"
        )
    return rule.model_copy(update={"phrases": phrases, "config_map_ref": None})


def _lines(text: str) -> dict[int, str]:
    """The phrases by the number of their line."""
    # Editors on Windows write a byte order mark; lines of theirs end in a carriage return, which is stripped.
    stripped = enumerate((line.strip() for line in text.removeprefix("\ufeff").split("\n")), start=1)
    return {number: line for number, line in stripped if line and not line.startswith("#")}


def _usable(phrase: str) -> bool:
    from tritonllm.guardrails import trie

    return len(phrase) <= kinds.MAX_CHARACTERS and bool(trie.normalize(phrase))
