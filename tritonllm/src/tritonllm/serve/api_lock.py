"""Locks what of Triton's API runs code, writes files or shows the policy, so that only who has a secret may use it.

Whoever loads a model runs code, a model's configuration holds the policy, and the others read memory or write
files. Health, metadata, statistics and inference stay open. tritonserver takes the secret on its command line
and nowhere else, so whoever sees the processes of the container, or of its node, sees it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

APIS = ("model-repository", "model-config", "shared-memory", "trace", "logging")
HTTP_HEADER = "tritonllm-api-secret"
# Triton puts its own prefix before the name of a gRPC header.
GRPC_HEADER = f"triton-grpc-protocol-{HTTP_HEADER}"


class Unusable(ValueError):
    """A file that holds no secret; the text says why and what to do, and quotes nothing of it."""


@dataclass(frozen=True)
class Lock:
    """The secret of one tritonserver, or none: then everything is open.

    Attributes:
        secret: printable ASCII without spaces; empty for none.
    """

    secret: str = field(default="", repr=False)

    def arguments(self) -> list[str]:
        """Options of tritonserver."""
        if not self.secret:
            return []
        rule = f"{','.join(APIS)}:{HTTP_HEADER}={self.secret}"
        return [f"--http-restricted-api={rule}", f"--grpc-restricted-protocol={rule}"]

    def http_headers(self) -> dict[str, str]:
        """Headers with which Triton's HTTP lets a caller in."""
        return {HTTP_HEADER: self.secret} if self.secret else {}

    def grpc_headers(self) -> dict[str, str]:
        """Headers with which Triton's gRPC lets a caller in."""
        return {GRPC_HEADER: self.secret} if self.secret else {}


OPEN = Lock()


def read(file: Path | None) -> Lock:
    """The lock for a file with a secret, such as a key of a mounted Secret.

    Args:
        file: white space around the secret does not count; None for no lock.

    Raises:
        Unusable: it can't be read, is empty, or holds what a header can't.
    """
    if file is None:
        return OPEN
    try:
        secret = file.read_bytes().strip().decode("ascii")
    except OSError as error:
        raise Unusable(
            f"the secret {file} can't be read: {error.strerror}; mount it there, or correct --api-secret-file"
        ) from None
    except UnicodeDecodeError:
        secret = " "
    if not secret:
        raise Unusable(f"the secret {file} is empty; write one into it, such as `openssl rand -hex 32` makes")
    if not re.fullmatch("[!-~]+", secret):
        raise Unusable(
            f"the secret {file} must be one line of ASCII letters, digits and signs without spaces, because it"
            " is sent as a header; write another one, such as `openssl rand -hex 32` makes"
        )
    return Lock(secret)
