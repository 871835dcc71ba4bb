"""Addresses to listen on, for both families of IP.

`::` stands for every interface and both families, as in Linux' own dual-stack sockets; where the kernel has no IPv6, it
stands for those of IPv4.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket

ANY = "::"
"""Every interface, of both families."""


def available(host: str) -> str:
    """The address to listen on where not every kernel has IPv6.

    Args:
        host: as it was chosen.

    Returns:
        `0.0.0.0` instead of `::` if this machine has no IPv6.
    """
    if host != ANY or _has_ipv6():
        return host
    return "0.0.0.0"


def is_ipv4(address: str) -> bool:
    """Whether a text is an address of IPv4."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(address).version == 4
    return False


def in_url(host: str) -> str:
    """A name or address as a URL has it: addresses of IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def listening_socket(host: str, port: int) -> socket.socket:
    """A TCP socket that listens; with `::`, on both families, whatever the kernel's default.

    Raises:
        OSError: the port is in use, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, dualstack_ipv6=host == ANY, backlog=1024)


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind((ANY, 0))
    except OSError:
        return False
    return True
