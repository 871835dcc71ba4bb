"""Endpoints whose rules and answers are a few lines of Python."""

from __future__ import annotations

from typing import Any, Literal

from tritonllm import errors
from tritonllm.gateway.upstream import Endpoint, Verdict


class FakeUpstream:
    """Blocks `secret`, masks `Berlin` and flags `mail`, in both directions.

    Attributes:
        names: of the endpoints.
        checked: the texts that were checked, with endpoint and direction.
    """

    def __init__(self, *names: str) -> None:
        self.names = names
        self.checked: list[tuple[str, str, str]] = []

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def endpoints(self) -> dict[str, Endpoint]:
        return {name: Endpoint(name, 1, "hash") for name in self.names}

    def submit(self, endpoint: str, inputs: Any) -> Any:
        raise NotImplementedError

    async def check(self, endpoint: str, text: str, direction: Literal["input", "output"]) -> Verdict:
        self.checked.append((endpoint, text, direction))
        if text == "fails":
            raise errors.RequestError("guardrail_failure", "", "the guardrail failed")
        return self.verdict(text, direction)

    def verdict(self, text: str, direction: str) -> Verdict:
        """What the rules say of a text."""
        found = [
            {"rule": rule, "action": action, "direction": direction, "count": text.count(word)}
            for word, rule, action in (("secret", "secrets", "Block"), ("Berlin", "cities", "Mask"), ("mail", "mails", "Flag"))
            if word in text
        ]  # fmt: skip
        blocked = "secret" in text
        return Verdict("" if blocked else text.replace("Berlin", "[REDACTED]"), blocked, found)
