"""Who is still connected: over an open connection a client goes on asking, although no load balancer sends it here."""

from __future__ import annotations

import ipaddress

import psutil


def from_elsewhere(pid: int, port: int) -> int:
    """Open connections that others than this machine have to a port of a process.

    A client on this machine need not be waited for: it has no other server to go to.

    Args:
        pid: of the server; to look through all processes takes a hundred times as long.
        port: where it listens.
    """
    try:
        open_ones = psutil.Process(pid).net_connections("tcp")
    except (psutil.Error, OSError):
        # Where it is gone, or a machine does not show them, nobody is waited for.
        return 0
    return sum(
        found.status == psutil.CONN_ESTABLISHED and found.laddr.port == port and not is_here(found.raddr.ip)
        for found in open_ones
        if found.laddr and found.raddr
    )


def is_here(address: str) -> bool:
    """Whether an IP address means this machine, whichever it is.

    Args:
        address: IPv4 or IPv6, as the kernel tells it.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    # tritonserver listens on IPv6 for both.
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback
