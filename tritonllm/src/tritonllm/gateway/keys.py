"""API keys: a file that maps the name of each key to the SHA-256 of its secret and to what the key may do.

    team-a:
      sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
      models: [chat]             # names of endpoints; without it, all
      requestsPerMinute: 60
      tokensPerMinute: 100000    # of prompts and answers
      concurrentRequests: 8

The file contains no secrets, only their hashes. `KeyFile` reads it again when it changes. Used by `access` for each
request, and by `tritonllm keys`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from tritonllm import api, files, validation_errors

log = logging.getLogger(__name__)

PREFIX = "sk-"
"""OpenAI's prefix of secret keys; scanners for leaked secrets look for it."""

RELOAD_SECONDS = 2.0
"""How often the file is looked at. A mounted Secret follows its object after up to a minute anyway."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SECRET_BYTES = 32


class Key(pydantic.BaseModel):
    """What a key may do.

    Attributes:
        sha256: of the secret, prefix included, as 64 hexadecimal digits.
        models: names of the endpoints that it is valid for; None for all.
        requests_per_minute: maximum number of requests; None for no limit.
        tokens_per_minute: maximum number of tokens of prompts and answers; None for no limit.
        concurrent_requests: maximum number of requests in progress; None for no limit.
    """

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel)

    sha256: str
    models: Annotated[list[api.Name], pydantic.Field(min_length=1)] | None = None
    requests_per_minute: Annotated[int, pydantic.Field(ge=1)] | None = None
    tokens_per_minute: Annotated[int, pydantic.Field(ge=1)] | None = None
    concurrent_requests: Annotated[int, pydantic.Field(ge=1)] | None = None

    @pydantic.field_validator("sha256", mode="before")
    @classmethod
    def _is_a_hash(cls, value: Any) -> Any:
        # The value is not quoted: it may be the secret itself.
        if not isinstance(value, str) or not _SHA256.fullmatch(value):
            raise PydanticCustomError(
                "sha256",
                "must be 64 lower-case hexadecimal digits; `tritonllm keys create` prints the entry of a key",
            )
        return value

    def allows(self, endpoint: str) -> bool:
        """Whether the key is valid for an endpoint."""
        return self.models is None or endpoint in self.models


class Keys:
    """A set of keys that a secret can be looked up in."""

    def __init__(self, entries: dict[str, Key]) -> None:
        self.entries = entries
        # Looked up under a keyed hash, so that the time of a lookup depends on nothing that a caller knows.
        self._salt = secrets.token_bytes(32)
        self._found = {self._blinded(bytes.fromhex(key.sha256)): name for name, key in entries.items()}

    def find(self, secret: str) -> str | None:
        """The name of the key with this secret; None if there is none."""
        digest = hashlib.sha256(secret.encode(errors="surrogateescape")).digest()
        name = self._found.get(self._blinded(digest))
        if name is None or not hmac.compare_digest(digest, bytes.fromhex(self.entries[name].sha256)):
            return None
        return name

    def _blinded(self, digest: bytes) -> bytes:
        return hashlib.blake2b(digest, key=self._salt).digest()


def create() -> tuple[str, str]:
    """A new secret, and the SHA-256 for its entry."""
    secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    return secret, hashlib.sha256(secret.encode()).hexdigest()


def load(paths: Iterable[Path]) -> Keys:
    """Reads keys.

    Args:
        paths: YAML or JSON files, or directories of them such as a mounted Secret.

    Raises:
        files.Invalid: a file is invalid; it has all problems of all files, and quotes no secrets.
    """
    entries: dict[str, Key] = {}
    problems: list[files.Problem] = []
    homes: dict[str, str] = {}
    hashes: dict[str, str] = {}
    for path in files.expand(paths):
        try:
            found, more = parse(files.load_document(path))
        except files.Invalid as error:
            problems += error.problems
            continue
        problems += [files.Problem(str(path), place, message) for place, message in more]
        for name, key in found.items():
            if name in entries:
                message = f"a key of this name is already defined in {homes[name]}; rename one of them"
                problems.append(files.Problem(str(path), name, message))
            if (same := hashes.setdefault(key.sha256, name)) != name:
                message = f"is the hash of `{same}` as well; each key needs a secret of its own"
                problems.append(files.Problem(str(path), f"{name}.sha256", message))
            entries[name], homes[name] = key, str(path)
    if problems:
        raise files.Invalid(problems)
    return Keys(entries)


def parse(document: Any) -> tuple[dict[str, Key], list[tuple[str, str]]]:
    """The keys of a document and its problems, as pairs of a field's path and a message; pure."""
    if not isinstance(document, dict):
        return {}, [("", "must map the name of each key to its entry")]
    found: dict[str, Key] = {}
    problems: list[tuple[str, str]] = []
    for name, entry in document.items():
        if not isinstance(name, str):
            problems.append((str(name), "the name must be a string; put it in quotes"))
        elif not _NAME.fullmatch(name):
            problems.append((str(name), "a name has 1 to 63 letters, digits, `.`, `_` and `-`"))
        # The value is not quoted: it may be the secret itself.
        elif not isinstance(entry, dict):
            problems.append((name, "must be an object with `sha256`; `tritonllm keys create` prints it"))
        else:
            try:
                found[name] = Key.model_validate(entry)
            except pydantic.ValidationError as error:
                problems += [
                    (f"{name}.{place}", message) for place, message in validation_errors.problems(error, Key)
                ]
    return found, problems


class KeyFile:
    """The keys in files, read again when one of the files changes.

    Attributes:
        keys: the last valid ones.
        valid: whether the files could be read when they last changed.
        on_change: called after each change of the files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Reads the files.

        Args:
            paths: files and directories, as for `load`.

        Raises:
            files.Invalid: a file is invalid. Only the first read raises.
        """
        self._paths = paths
        self.on_change: Callable[[KeyFile], object] = lambda _: None
        self._seen = files.identities(paths)
        self.keys = load(paths)
        self.valid = True

    def reload(self) -> None:
        """Reads the files again if one has changed; if they are invalid, the former keys stay in use."""
        now = files.identities(self._paths)
        if now == self._seen:
            return
        self._seen = now
        try:
            self.keys, self.valid = load(self._paths), True
            log.info("the API keys have changed: %d keys", len(self.keys.entries))
        except files.Invalid as error:
            self.valid = False
            log.error("the API keys have changed but are invalid; the former ones stay in use: %s", error)
        self.on_change(self)

    async def follow(self) -> None:
        """Reloads the files whenever they change, until it is cancelled."""
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            try:
                # In a thread, because YAML is parsed slowly.
                await asyncio.to_thread(self.reload)
            except Exception:
                log.exception("the API keys could not be read again; the former ones stay in use")
