"""Canonical JSON, for hashes, configurations and golden files."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from typing import Any

# Part of every hash. Increased when the structure of the hashed part of the spec changes, because hashes of different
# schemas cannot be compared.
HASH_SCHEMA = "v1"


def dumps(value: Any) -> str:
    """JSON with sorted keys and no spaces, in which 1 and 1.0 are the same number."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def pretty(value: Any) -> bytes:
    """Canonical JSON with indentation, for files."""
    return (json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, indent=2) + "\n").encode()


def digest(value: Any) -> str:
    """The `spec_hash` of a part of the spec."""
    return f"{HASH_SCHEMA}:{hashlib.sha256(dumps(value).encode()).hexdigest()[:32]}"


def pack(value: Any) -> str:
    """Compressed JSON as a string, for the policy in a model's configuration."""
    return base64.b64encode(zlib.compress(dumps(value).encode(), 9)).decode()


def unpack(text: str) -> Any:
    """Reverses `pack`."""
    return json.loads(zlib.decompress(base64.b64decode(text)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
