"""Writes that the API server refused, in words for a condition. Pure."""

from __future__ import annotations

import re

from tritonllm_operator.facts import Trouble

# https://kubernetes.io/docs/reference/access-authn-authz/authorization/: how RBAC says no.
_FORBIDDEN = re.compile(
    r'is forbidden: User "(?P<user>[^"]+)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)"'
)
_ACCOUNT = re.compile(r"system:serviceaccount:([^:]+):([^:]+)")
# Gone, changed meanwhile, or too many requests: another try helps.
_PASSING = (404, 409, 429)


def trouble(status: int, message: str, pool: str, namespace: str) -> Trouble | None:
    """Why a pool cannot be looked after, if a person has to do something about it; None where another try may help."""
    if not 400 <= status < 500 or status in _PASSING:
        return None
    denied = _FORBIDDEN.search(message)
    if status != 403 or denied is None:
        return Trouble("ApiRefused", f"the API server refused a write of the operator: {message}")
    found = _ACCOUNT.fullmatch(denied["user"])
    account = f" --set operator.namespace={found[1]},operator.serviceAccount={found[2]}" if found else ""
    return Trouble(
        "MissingRights",
        f"the operator ({denied['user']}) cannot {denied['verb']} {denied['resource']} in namespace {namespace}, a right"
        f" that the chart of the pool grants; run `helm upgrade {pool} charts/tritonllm-pool -n {namespace}"
        f" --reset-then-reuse-values --set operator.enabled=true{account}`",
    )
