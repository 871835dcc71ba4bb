"""The tool calls of one choice, with the output rules applied to what they contain.

A client puts the arguments of a call together and reads them as JSON, so a mask must keep them JSON, and a rule must see
strings as they are read, not as they are escaped. Therefore a call is held back until it is complete if there are
rules; without rules it is streamed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tritonllm.guardrails import judges, stream
from tritonllm.runtime import conversations

Delta = dict[str, Any]


class ToolCalls:
    """Collects the deltas of calls.

    Args:
        judge: applies the output rules to a text; None without rules.
    """

    def __init__(self, judge: Callable[[str], str] | None) -> None:
        self._judge = judge
        self._ready: list[Delta] = []
        self._held: dict[int, Delta] = {}

    def feed(self, deltas: list[Delta]) -> None:
        """Takes the next deltas of the engine."""
        if self._judge is None:
            self._ready += deltas
            return
        for delta in deltas:
            index = delta["index"]
            if index not in self._held:
                # Calls come one after the other, so those before are complete.
                self._complete()
                self._held[index] = {
                    "index": index,
                    "type": "function",
                    "function": {"name": "", "arguments": ""},
                }
            call = self._held[index]
            if "id" in delta:
                call["id"] = delta["id"]
            for key, text in delta.get("function", {}).items():
                call["function"][key] += text or ""

    @property
    def pending(self) -> bool:
        """Whether something may leave that has not left yet."""
        return bool(self._ready)

    def finish(self) -> None:
        """Takes note that no delta follows."""
        self._complete()

    def discard(self) -> None:
        """Drops what has not left, because a rule has blocked the choice."""
        self._held.clear()

    def take(self) -> list[Delta]:
        """What may leave and has not left yet."""
        ready, self._ready = self._ready, []
        return ready

    def _complete(self) -> None:
        held, self._held = self._held, {}
        for call in held.values():
            assert self._judge is not None
            function = call["function"]
            function["name"] = self._judge(function["name"])
            function["arguments"] = conversations.map_arguments(function["arguments"], self._judge)
            self._ready.append(call)


class JudgedCalls:
    """What of the tool calls may leave after the judges; without judges, everything at once.

    Args:
        direction: the judges.
    """

    def __init__(self, direction: Sequence[judges.Judge]) -> None:
        self._judges = direction
        self._calls: list[tuple[Delta, judges.JudgedText]] = []
        # All of them, for their verdicts.
        self._texts: list[judges.JudgedText] = []

    def feed(self, deltas: list[Delta]) -> None:
        """Takes deltas; with judges each is a complete call, because there are output rules."""
        for delta in deltas:
            text = judges.JudgedText(self._judges)
            if self._judges:
                text.feed(_text(delta), last=True)
                self._texts.append(text)
            self._calls.append((delta, text))

    @property
    def pending(self) -> bool:
        """Whether something may leave that has not left yet."""
        return bool(self._calls) and not self._calls[0][1].held

    @property
    def undecided(self) -> bool:
        """Whether judges still have to decide about a call."""
        return any(text.undecided for text in self._texts)

    @property
    def blocked(self) -> bool:
        """Whether a judge has ended the choice."""
        return any(text.blocked for text in self._texts)

    @property
    def verdicts(self) -> list[stream.Verdict]:
        """What the rules have found."""
        return [verdict for text in self._texts for verdict in text.verdicts]

    def questions(self, limit: int) -> list[judges.Question]:
        """The next windows that judges have to decide about, each once."""
        found: list[judges.Question] = []
        for text in self._texts:
            found += text.questions(limit - len(found))
        return found

    def discard(self) -> None:
        """Drops what has not left, because a rule has blocked the choice."""
        self._calls.clear()

    def take(self) -> list[Delta]:
        """What may leave and has not left yet, in the order of the calls."""
        found: list[Delta] = []
        while self.pending:
            found.append(self._calls.pop(0)[0])
        return found


def _text(call: Delta) -> str:
    """A call as a classifier reads it: the name and every string of the arguments."""
    parts = [call["function"]["name"]]

    def note(text: str) -> str:
        parts.append(text)
        return text

    conversations.map_arguments(call["function"]["arguments"], note)
    return "\n".join(parts)
