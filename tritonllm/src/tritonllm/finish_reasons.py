"""Why an answer ended: one table for the models, the client and the documents."""

from __future__ import annotations

from typing import Literal

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "cancelled", "timeout"]

MEANINGS: dict[FinishReason, str] = {
    "stop": "The model ended its answer, or generated a stop sequence",
    "length": "`max_tokens` or the model's context length was reached",
    "tool_calls": "The model called tools; `tool_calls` has the calls",
    "content_filter": "A Block rule matched, and `guardrail` names it; or the filter of an upstream ended the answer",
    "cancelled": "The client disconnected, or the engine aborted the request",
    "timeout": "`requestTimeoutSeconds` passed; the answer holds the text generated until then",
}
"""What each means, for people, without a full stop."""
