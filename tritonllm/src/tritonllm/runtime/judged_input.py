"""The texts of one request under the input judges: its prompt, or its conversation with history, tools and their results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tritonllm import guardrails
from tritonllm.guardrails import judges
from tritonllm.runtime import conversations, requests

# A call of a tool, or its definition, has many short strings, which mean something together only.
_TOGETHER = re.compile(r".*?(?:tool_calls\[\d+\]|\.tools\[\d+\]|\.chat_template_kwargs)")

Texts = list[tuple[str, str]]
"""Fields and what is in them."""


class JudgedInput:
    """The texts of a request, all of them complete.

    Args:
        texts: what the matchers have let through.
        direction: the judges.
    """

    def __init__(self, texts: Texts, direction: Sequence[judges.Judge]) -> None:
        self._texts: list[tuple[str, judges.JudgedText]] = []
        for field, text in texts if direction else []:
            judged = judges.JudgedText(direction)
            judged.feed(text, last=True)
            self._texts.append((field, judged))

    @property
    def blocked(self) -> bool:
        """Whether a rule refuses the request."""
        return any(text.blocked for _, text in self._texts)

    @property
    def held(self) -> bool:
        """Whether the request must wait for verdicts."""
        return any(text.held for _, text in self._texts) and not self.blocked

    @property
    def undecided(self) -> bool:
        """Whether verdicts are due that can still refuse the request."""
        return any(text.undecided for _, text in self._texts) and not self.blocked

    def questions(self, limit: int) -> list[judges.Question]:
        """The next windows to ask about, each once."""
        found: list[judges.Question] = []
        for _, text in self._texts:
            if len(found) >= limit or self.blocked:
                break
            found += text.questions(limit - len(found))
        return found

    def verdicts(self) -> list[dict[str, Any]]:
        """What was found, in the clients' form, with the first field in which it was."""
        fields: dict[str, str] = {}
        found: list[guardrails.Verdict] = []
        for field, text in self._texts:
            for verdict in text.verdicts:
                fields.setdefault(verdict.rule, field)
                found.append(verdict)
        return [
            verdict | {"field": fields[verdict["rule"]]} for verdict in guardrails.summarize(found, "input")
        ]


def texts(request: requests.Request) -> Texts:
    """All that a model reads of a request. The strings of a tool's call, or of its definition, are one text."""
    if request.text is not None:
        return [("text_input", request.text)]
    found: dict[str, list[str]] = {}

    def note(field: str, text: str) -> str:
        together = _TOGETHER.match(field)
        found.setdefault(together.group() if together else field, []).append(text)
        return text

    conversations.map_messages(request.messages or [], note)
    conversations.map_options(request.chat, note)
    return [(field, "\n".join(parts)) for field, parts in found.items()]
