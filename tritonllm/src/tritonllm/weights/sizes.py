"""Sizes of files and downloads, in messages."""

from __future__ import annotations


def readable(size: float) -> str:
    """A number of bytes in MB or GB."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
