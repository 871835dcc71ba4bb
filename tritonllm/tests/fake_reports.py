"""A fake of what `serve` reports to: it keeps the lines."""

from __future__ import annotations


class Reports:
    """Keeps what is reported, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, text: str) -> None:
        self.lines.append(text)

    def problem(self, text: str) -> None:
        self.lines.append(text)

    def ready(self, serving: object) -> None:
        self.lines.append("ready")
