"""Rules for credentials."""

from __future__ import annotations

from collections.abc import Iterator

from tritonllm.rules import kinds


class Secrets(kinds.Kind):
    """Credentials: keys with a known prefix, JSON Web Tokens, private keys in PEM."""

    def searches(self) -> Iterator[kinds.Search]:
        """See `kinds.Kind`."""
        from tritonllm.rules import data_types

        yield from data_types.SECRETS.values()
