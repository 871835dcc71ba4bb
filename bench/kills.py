"""Kills processes of a server while it is under load: one at a time, by the ids of the processes it has started."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random

import psutil

import processes
from integration import server

ROLES = ("pipeline", "guardrail", "engine", "core")


async def kill_now_and_then(
    served: server.Served, seconds: float, chance: random.Random, killed: collections.Counter[str]
) -> None:
    """Kills a process every so many seconds until it is cancelled, each role as often as the others.

    A server that is not ready is spared: a process that dies while it starts is a model that can't be loaded, which
    is reported and not tried again.

    Args:
        served: the server.
        seconds: between two kills.
        chance: chooses the order of the roles, and among the processes of one.
        killed: gets the number of kills by role.
    """
    order: list[str] = []
    while True:
        await asyncio.sleep(seconds)
        if (await asyncio.to_thread(served.probe, "/readyz"))[0] != 200:
            continue
        victims: dict[str, list[psutil.Process]] = {}
        for role, process in processes.tree(served.pid, "supervisor"):
            if role in ROLES:
                victims.setdefault(role, []).append(process)
        # A simulated engine has no core.
        order = [role for role in order if role in victims] or chance.sample(sorted(victims), k=len(victims))
        if order:
            role = order.pop()
            with contextlib.suppress(psutil.NoSuchProcess):
                chance.choice(victims[role]).kill()
                killed[role] += 1
