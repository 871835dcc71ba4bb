"""Requests and responses of `/v2/models/NAME/generate_stream` for AIPerf. Imported by AIPerf's processes only."""

# AIPerf has an environment of its own, which type checkers do not see.
# pyright: reportMissingImports=false

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from aiperf.common.models import (
    ErrorDetails,
    InferenceServerResponse,
    ParsedResponse,
    RequestInfo,
    RequestRecord,
)
from aiperf.endpoints.base_endpoint import BaseEndpoint

from tritonllm import errors


class GenerateStream(BaseEndpoint):
    """Sends prompts as they are, without a chat template, as `/v1/completions` does."""

    def format_payload(self, request_info: RequestInfo) -> dict[str, Any]:
        """The body of a request; further fields of the command line are sampling parameters."""
        turn = request_info.turns[-1]
        sampling = dict(self.model_endpoint.endpoint.extra or {})
        if turn.max_tokens is not None:
            sampling["max_tokens"] = turn.max_tokens
        prompt = "".join(content for text in turn.texts for content in text.contents)
        return {"text_input": prompt, "stream": True, "sampling_parameters": json.dumps(sampling)}

    def parse_response(self, response: InferenceServerResponse) -> ParsedResponse | None:
        """The text of a response; the last one has the token counts."""
        outputs = response.get_json()
        if not outputs or "text_output" not in outputs:
            return None
        usage = None
        if "num_output_tokens" in outputs:
            prompt, completion = outputs["num_input_tokens"], outputs["num_output_tokens"]
            usage = {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            }
        return ParsedResponse(
            perf_ns=response.perf_ns, data=self.make_text_response_data(outputs["text_output"]), usage=usage
        )

    def extract_response_data(self, record: RequestRecord) -> list[ParsedResponse]:
        """The responses of a request. It has failed if one of them is an error, and if its prompt was blocked, as with OpenAI's API."""
        if record.error is None:
            record.error = _failure([response.get_json() or {} for response in record.responses or ()])
        return super().extract_response_data(record)


def _failure(responses: Sequence[Mapping[str, Any]]) -> ErrorDetails | None:
    for outputs in responses:
        if "error" in outputs:
            problem = errors.parse(str(outputs["error"]))
            return ErrorDetails(type=problem.code, message=problem.message)
    blocked = any(outputs.get("finish_reason") == "content_filter" for outputs in responses)
    if blocked and not any(outputs.get("text_output") for outputs in responses):
        return ErrorDetails(type="content_filter", message=errors.TABLE["content_filter"].meaning)
    return None
