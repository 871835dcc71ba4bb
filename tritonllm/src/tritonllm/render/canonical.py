"""One byte string per meaning: what hashes, configs and golden files are made of."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from typing import Any

# Part of every hash: raised when the hashed slice of the spec changes its shape, so that hashes of
# different schemas are known to be incomparable.
HASH_SCHEMA = "v1"


def dumps(value: Any) -> str:
    """JSON with sorted keys and no spaces, in which 1 and 1.0 are the same number."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def pretty(value: Any) -> bytes:
    """The same for files that people read."""
    return (json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, indent=2) + "\n").encode()


def digest(value: Any) -> str:
    """The `spec_hash` of a slice of the spec."""
    return f"{HASH_SCHEMA}:{hashlib.sha256(dumps(value).encode()).hexdigest()[:32]}"


def pack(value: Any) -> str:
    """JSON, compressed, as text: how a policy travels in a model's config."""
    return base64.b64encode(zlib.compress(dumps(value).encode(), 9)).decode()


def unpack(text: str) -> Any:
    """The value that was packed."""
    return json.loads(zlib.decompress(base64.b64decode(text)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
