"""The limits of an API key: requests and tokens per minute as token buckets, and requests at the same time.

All counts are in memory, so each process of the gateway counts for itself: a limit is per pod, and with several
workers each enforces its share. A limit for a whole cluster is the job of the proxy in front of it. Pure but for the
clock, which is injected.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from tritonllm.gateway.keys import Key


class Refusal(NamedTuple):
    """Why a request is refused.

    Attributes:
        message: which limit, its value, and when to try again.
        retry_after: seconds after which the next request can succeed, at least 1.
    """

    message: str
    retry_after: int


class TokenBucket:
    """A bucket that holds one minute's worth and is filled continuously.

    Taking may leave it below zero, because the tokens of an answer are known only when it has been sent; then nothing
    is left until it is above zero again.
    """

    def __init__(self, per_minute: float, now: float) -> None:
        """Starts full.

        Args:
            per_minute: rate and capacity.
            now: time in seconds, as in every call.
        """
        self.per_minute = per_minute
        self._level = per_minute
        self._at = now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until the bucket holds an amount; 0 if it does."""
        self._fill(now)
        return max(0.0, (amount - self._level) * 60 / self.per_minute)

    def take(self, amount: float, now: float) -> None:
        """Takes an amount, whether the bucket holds it or not."""
        self._fill(now)
        self._level -= amount

    def resize(self, per_minute: float, now: float) -> None:
        """Changes rate and capacity; what has been taken stays taken."""
        self._fill(now)
        self._level += per_minute - self.per_minute
        self.per_minute = per_minute

    def _fill(self, now: float) -> None:
        self._level = min(self.per_minute, self._level + (now - self._at) * self.per_minute / 60)
        self._at = now


class KeyUsage:
    """What one key uses.

    Attributes:
        running: number of its requests in progress.
    """

    def __init__(self, key: Key, workers: int, clock: Callable[[], float]) -> None:
        self.running = 0
        self._clock = clock
        self._workers = workers
        self._requests: TokenBucket | None = None
        self._tokens: TokenBucket | None = None
        self.follow(key)

    def follow(self, key: Key) -> None:
        """Takes over the limits of a changed entry; what is used already still counts."""
        self._key = key
        self._requests = self._bucket(self._requests, key.requests_per_minute)
        self._tokens = self._bucket(self._tokens, key.tokens_per_minute)

    def begin(self) -> Refusal | None:
        """Begins a request, or refuses it; a request that was begun has to be ended with `end`."""
        now, key = self._clock(), self._key
        if key.concurrent_requests and self.running >= max(1, key.concurrent_requests // self._workers):
            return _refusal("concurrentRequests", f"{key.concurrent_requests} requests in progress", 1)
        if self._tokens and (seconds := self._tokens.wait(1, now)):
            return _refusal("tokensPerMinute", f"{key.tokens_per_minute} tokens per minute", seconds)
        if self._requests:
            if seconds := self._requests.wait(1, now):
                return _refusal(
                    "requestsPerMinute", f"{key.requests_per_minute} requests per minute", seconds
                )
            self._requests.take(1, now)
        self.running += 1
        return None

    def end(self, tokens: int) -> None:
        """Ends a request that used this many tokens, of prompt and answer together."""
        self.running -= 1
        if self._tokens and tokens:
            self._tokens.take(tokens, self._clock())

    def _bucket(self, bucket: TokenBucket | None, per_minute: int | None) -> TokenBucket | None:
        if per_minute is None:
            return None
        # A bucket of less than one request would never hold one.
        share = max(1.0, per_minute / self._workers)
        if bucket is None:
            return TokenBucket(share, self._clock())
        bucket.resize(share, self._clock())
        return bucket


class Limiter:
    """What all keys use."""

    def __init__(self, workers: int, clock: Callable[[], float]) -> None:
        """Starts with nothing used.

        Args:
            workers: number of processes that share the limits.
            clock: monotonic time in seconds.
        """
        self._workers = workers
        self._clock = clock
        self._usages: dict[str, tuple[Key, KeyUsage]] = {}

    def usage(self, name: str, key: Key) -> KeyUsage:
        """What a key uses.

        Args:
            name: of the key.
            key: its present entry; a changed entry changes the limits.
        """
        entry, usage = self._usages.get(name, (None, None))
        if usage is None:
            usage = KeyUsage(key, self._workers, self._clock)
        elif entry is not key:
            usage.follow(key)
        self._usages[name] = (key, usage)
        return usage


def _refusal(field: str, limit: str, seconds: float) -> Refusal:
    wait = max(1, math.ceil(seconds))
    return Refusal(f"The API key has reached its limit of {limit} ({field}); try again in {wait} s", wait)
