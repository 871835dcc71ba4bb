"""Counts open client connections: a connected client keeps sending requests after its load balancer has moved on."""

from __future__ import annotations

import ipaddress

import psutil


def from_elsewhere(pid: int, port: int) -> int:
    """Counts established connections from other machines to a port of a process.

    Clients on this machine are not counted: they have no other server to go to.

    Args:
        pid: process id of the server; scanning all processes would take a hundred times as long.
        port: the port it listens on.
    """
    try:
        open_ones = psutil.Process(pid).net_connections("tcp")
    except (psutil.Error, OSError):
        # If the process is gone, or its connections are hidden, there is nothing to wait for.
        return 0
    return sum(
        found.status == psutil.CONN_ESTABLISHED and found.laddr.port == port and not is_here(found.raddr.ip)
        for found in open_ones
        if found.laddr and found.raddr
    )


def is_here(address: str) -> bool:
    """Whether an IP address is a loopback address.

    Args:
        address: IPv4 or IPv6, as reported by the kernel.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    # tritonserver may accept IPv4 clients on an IPv6 socket.
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback
