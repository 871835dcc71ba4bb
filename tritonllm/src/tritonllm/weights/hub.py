"""Asks the Hub: which commit, which files, their bytes. Each answer that is no use comes out as a failure.

Sessions, headers, addresses and error classes are huggingface_hub's. The requests are our own, because its
listing has no timeout, its first request is not retried, and it accepts wrong bytes of the right length.
"""

from __future__ import annotations

import contextlib
import email.utils
import http
import os
import re
import ssl
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import huggingface_hub
import huggingface_hub.utils
from huggingface_hub import constants, errors

from tritonllm.weights import failures, layout, selection

# The HTTP library of huggingface_hub's sessions: its 2.x hands on a successor of the httpx that 1.x depends on.
if TYPE_CHECKING:
    from huggingface_hub.utils import httpx
else:
    try:
        from huggingface_hub.utils import httpx
    except ImportError:
        import httpx

# A connection is there in seconds or not at all; the Hub sends the first byte of a large file within seconds.
_TIMEOUT = httpx.Timeout(30, connect=10)
_RANGE = re.compile(r"bytes (\d+)-\d*/(\d+)")


@dataclass(frozen=True)
class Content:
    """Bytes of a file, as they come.

    Attributes:
        start: where in the file they begin; 0 where the server does not continue.
        size: of the whole file as the server sees it, in bytes; None where it does not say.
        chunks: the bytes.
    """

    start: int
    size: int | None
    chunks: Iterator[bytes]


class Hub:
    """The Hugging Face Hub, or a mirror of it.

    Args:
        endpoint: its address; None for huggingface_hub's own setting (`HF_ENDPOINT`).
        token: None to ask without one.

    Raises:
        HubUnreachable: the address is not a URL.
    """

    def __init__(self, endpoint: str | None = None, token: str | None = None) -> None:
        self._endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self._name = _name(self._endpoint)
        self._token = token
        self._headers = huggingface_hub.utils.build_hf_headers(
            token=token or False, library_name="tritonllm", library_version=None
        )

    def require_online(self, repo: str, revision: str) -> None:
        """Checks that asking is allowed at all.

        Raises:
            HubUnreachable: `HF_HUB_OFFLINE` is set.
        """
        with self._failing(repo, revision):
            if constants.is_offline_mode():
                raise errors.OfflineModeIsEnabled

    def commit(self, repo: str, revision: str) -> str:
        """The commit that a branch, a tag or a commit is now.

        Raises:
            Failure: see `failures`.
        """
        quoted = urllib.parse.quote(revision, safe="")
        with self._failing(repo, revision):
            answer = self._get(f"{self._endpoint}/api/models/{repo}/revision/{quoted}")
        with self._reading():
            commit = answer.json()["sha"]
        if not isinstance(commit, str) or not layout.is_commit(commit):
            raise failures.HubUnreachable(f"{self._name} has no commit for {repo}; is it a model hub?")
        return commit

    def files(self, repo: str, commit: str) -> list[selection.RemoteFile]:
        """All files of a commit.

        Raises:
            Failure: see `failures`.
        """
        query: str | None = "recursive=true&expand=false"
        found: list[selection.RemoteFile] = []
        while query is not None:
            with self._failing(repo, commit):
                page = self._get(f"{self._endpoint}/api/models/{repo}/tree/{commit}?{query}")
            with self._reading():
                found += [_file(entry) for entry in page.json() if entry["type"] == "file"]
                following = page.links.get("next", {}).get("url")
                # A mirror may name another host there, where the token has no business; what leads on is the cursor.
                before, query = query, following and urllib.parse.urlsplit(following).query
                if query == before:
                    raise ValueError("a listing that leads to itself")
        return found

    @contextlib.contextmanager
    def content(
        self, repo: str, commit: str, path: str, start: int = 0, end: int | None = None
    ) -> Iterator[Content]:
        """Opens a file; a failure while its bytes are read comes out of the `with` as well.

        Args:
            repo: `organisation/name`.
            commit: 40 hexadecimal digits.
            path: inside the repository.
            start: the first byte that is wanted.
            end: the first byte that is not; None for all.

        Raises:
            Failure: see `failures`.
        """
        url = huggingface_hub.hf_hub_url(repo, path, revision=commit, endpoint=self._endpoint)
        # Compressed, a range would be one of the compressed bytes.
        headers = self._headers | {"Accept-Encoding": "identity"}
        if start or end is not None:
            last = "" if end is None else end - 1
            headers["Range"] = f"bytes={start}-{last}"
        with (
            self._failing(repo, commit),
            _session().stream("GET", url, headers=headers, timeout=_TIMEOUT) as response,
        ):
            if response.status_code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                if response.is_error:
                    response.read()
                _check(response)
            with self._reading():
                begins, size = _extent(response)
            yield Content(begins, size, response.iter_raw())

    def part(self, repo: str, commit: str, path: str, start: int, size: int) -> bytes:
        """Some bytes of a file; fewer where it ends.

        Args:
            repo: `organisation/name`.
            commit: 40 hexadecimal digits.
            path: inside the repository.
            start: the first byte.
            size: how many at most.

        Raises:
            Failure: see `failures`.
        """
        with self.content(repo, commit, path, start, start + size) as found:
            # From the beginning where the server knows no ranges.
            skipped, got = start - found.start, bytearray()
            for chunk in found.chunks:
                got += chunk
                if len(got) >= skipped + size:
                    break
        return bytes(got[skipped : skipped + size])

    def _get(self, url: str) -> Any:
        response = _session().get(url, headers=self._headers, timeout=_TIMEOUT)
        _check(response)
        return response

    @contextlib.contextmanager
    def _failing(self, repo: str, revision: str) -> Iterator[None]:
        try:
            yield
        except (
            errors.HfHubHTTPError,
            errors.OfflineModeIsEnabled,
            httpx.HTTPError,
            httpx.InvalidURL,
        ) as error:
            raise self._failure(error, repo, revision) from error

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise failures.HubUnreachable(
                f"{self._name} answers, but not as a model hub does; correct the address, or the proxy before it"
            ) from error

    def _failure(self, error: Exception, repo: str, revision: str) -> failures.Failure:
        known = "with this token" if self._token else "without a token"
        match error:
            case errors.OfflineModeIsEnabled():
                return failures.HubUnreachable(
                    f"{repo} at {revision} is not complete here and HF_HUB_OFFLINE is set; download it where the"
                    " Hub can be reached, or `tritonllm weights import` it"
                )
            case errors.GatedRepoError():
                return failures.GatedRepo(
                    f"{repo} is gated and can't be read {known}; accept its licence at {self._name}/{repo} and give"
                    " a token of that account (--token-file or HF_TOKEN)"
                )
            case errors.DisabledRepoError():
                return failures.RepositoryNotFound(
                    f"{repo} was disabled by the Hub; choose another repository"
                )
            case errors.RevisionNotFoundError():
                return failures.RevisionNotFound(
                    f"{repo} has no revision {revision}; correct `spec.model.revision`"
                )
            case errors.RepositoryNotFoundError():
                return failures.RepositoryNotFound(
                    f"{repo} was not found at {self._name}, or is private and not to be seen {known};"
                    " correct `spec.model.repo`, or give a token that may read it (--token-file or HF_TOKEN)"
                )
            case errors.RemoteEntryNotFoundError():
                return failures.Corrupt(
                    f"{self._name} lists a file of {repo} that it does not have; try again later"
                )
            case errors.HfHubHTTPError():
                return self._refusal(error.response, repo)
            case _ if _untrusted(error):
                return failures.HubUnreachable(
                    f"the certificate of {self._name} is not trusted; name your CA bundle in SSL_CERT_FILE"
                )
            case httpx.InvalidURL() | httpx.UnsupportedProtocol():
                return failures.HubUnreachable(f"{self._name} is no address of a hub; correct --endpoint-url")
        return failures.HubUnreachable(
            f"{self._name} can't be reached: {type(error).__name__}: {error}; check network, proxy and address",
            retry=True,
        )

    def _refusal(self, response: Any, repo: str) -> failures.Failure:
        status = response.status_code
        if status == 429:
            return failures.RateLimited(
                f"{self._name} limits requests; wait, give a token, or share one cache among replicas",
                retry=True,
                after_seconds=_asked_to_wait(response.headers),
            )
        if status in (401, 403):
            given = "does not accept the token" if self._token else "wants a token"
            return failures.Unauthorized(
                f"{self._name} {given} for {repo} (HTTP {status}); give a valid one: --token-file or HF_TOKEN"
            )
        return failures.HubUnreachable(
            f"{self._name} answers HTTP {status} for {repo}; try again later, or use another address",
            retry=status >= 500 or status == 408,
            after_seconds=_retry_after(response.headers),
        )


def _name(endpoint: str) -> str:
    """The address of a hub without the credentials that it may carry."""
    with contextlib.suppress(ValueError):
        parts = urllib.parse.urlsplit(endpoint)
        if parts.scheme in ("http", "https") and parts.hostname:
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    raise failures.HubUnreachable(
        "the address of the hub is not a URL; correct --endpoint-url or HF_ENDPOINT (https://host)"
    )


def _session() -> httpx.Client:
    try:
        # httpx before 0.28 takes its own certificates instead of a file that is not there.
        if bundle := os.environ.get("SSL_CERT_FILE"):
            os.stat(bundle)
        return huggingface_hub.utils.get_session()
    except (OSError, ValueError, ImportError) as error:
        # Without its own words: they may hold the password of a proxy.
        raise failures.HubUnreachable(
            "no connection can be made with these settings; correct SSL_CERT_FILE (a file of certificates, in PEM),"
            " HTTP_PROXY, HTTPS_PROXY and ALL_PROXY (http://host:port)"
        ) from error


def _check(response: httpx.Response) -> None:
    try:
        huggingface_hub.utils.hf_raise_for_status(response)
    except errors.HfHubHTTPError:
        raise
    except ValueError as error:
        # The library reads what an error says as JSON; a proxy's page may not even be text.
        raise errors.HfHubHTTPError("no JSON", response=response) from error


def _file(entry: dict[str, Any]) -> selection.RemoteFile:
    """One entry of the listing: https://huggingface.co/docs/hub/api (tree)."""
    path, large = entry["path"], entry.get("lfs")
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise ValueError(f"a file name that leaves its directory: {path!r}")
    return selection.RemoteFile(
        path=path,
        size=int(large["size"] if large else entry["size"]),
        git_sha1=entry["oid"],
        sha256=large["oid"] if large else None,
    )


def _extent(response: Any) -> tuple[int, int | None]:
    """Where the bytes of a response begin, and how long the whole file is."""
    if response.status_code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        # Shorter than what is asked for.
        return 0, 0
    if response.status_code == http.HTTPStatus.PARTIAL_CONTENT:
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found is None:
            raise ValueError("a partial answer that does not say which part")
        return int(found[1]), int(found[2])
    length = response.headers.get("Content-Length")
    return 0, None if length is None else int(length)


def _asked_to_wait(headers: Any) -> float:
    """Seconds by the Hub's `RateLimit` header, or by `Retry-After`."""
    limit = huggingface_hub.utils.parse_ratelimit_headers(headers)
    # It comes with every answer, and is the reason only where nothing is left.
    if limit is not None and limit.remaining == 0:
        return limit.reset_in_seconds
    return _retry_after(headers)


def _retry_after(headers: Any) -> float:
    # Seconds or a date: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    after = headers.get("Retry-After", "")
    if after.isdecimal():
        return float(after)
    try:
        date = email.utils.parsedate_to_datetime(after)
    except ValueError:
        return 0.0
    return max(0.0, date.timestamp() - time.time())


def _untrusted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
