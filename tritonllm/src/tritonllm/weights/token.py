"""The Hub's token: read from where it may be, and kept out of where it has no business."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tritonllm.weights import failures

# All that huggingface_hub takes a token from: https://huggingface.co/docs/huggingface_hub (environment variables)
_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH")
_TOKEN = re.compile(r"[!-~]+")


def read(file: Path | None, environment: Mapping[str, str]) -> str | None:
    """The token to ask with.

    Args:
        file: holds nothing else; goes before the environment.
        environment: of the process; `HF_TOKEN` counts.

    Returns:
        The token; None to ask without one.

    Raises:
        Unauthorized: what is given can't be a token. The message does not show it.
    """
    if file is None:
        name, text = "HF_TOKEN", environment.get("HF_TOKEN", "").strip()
        if not text:
            return None
    else:
        name = f"the token file {file}"
        try:
            text = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise failures.Unauthorized(f"{name} can't be read: {why}; correct --token-file") from None
        if not text:
            raise failures.Unauthorized(f"{name} is empty; put the token in it, or leave out --token-file")
    # An HTTP library would show the whole header in its complaint.
    if not _TOKEN.fullmatch(text):
        raise failures.Unauthorized(f"{name} holds more than a token: there are spaces or other signs in it")
    return text


def without(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for a process that must not have the token."""
    return {name: value for name, value in environment.items() if name not in _VARIABLES}
