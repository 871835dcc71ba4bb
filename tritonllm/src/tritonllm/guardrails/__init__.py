"""Guardrails: what a text may not say, found and taken out while it is still being written.

For every text and every way of cutting it into pieces, the pieces that leave add up to what masking the
whole text at once gives, and no character of a span that a rule blocks or masks ever leaves. Pure: no
Triton, no clock, no I/O.

    policy = guardrails.compile(endpoint.spec.guardrails.output)
    policy.scan("a whole text").text
    stream = policy.stream()
    for piece in pieces:
        send(stream.feed(piece))
    send(stream.finish())

What overlaps is one mask, under the rule that begins first; a block ends the text before its first
character; a flag changes nothing. Used by the pipeline, the guardrail model and the command line.
"""

from __future__ import annotations

from tritonllm.guardrails.policy import Policy, PolicyError, Result, check, compile, summarize, warnings
from tritonllm.guardrails.stream import Stream, Verdict

__all__ = [
    "Policy",
    "PolicyError",
    "Result",
    "Stream",
    "Verdict",
    "check",
    "compile",
    "summarize",
    "warnings",
]
