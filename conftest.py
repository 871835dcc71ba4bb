"""The switch that rewrites golden files, of the renderer and of the charts."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the switch."""
    parser.addoption("--golden-update", action="store_true", help="rewrite the golden files")
