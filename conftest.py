"""What all tests share: an environment of their own, and the switch that rewrites golden files."""

import os

import pytest

# Who runs the tests may have settings for the Hub (an address, a token, "offline") and proxies; they would change
# what every process here does. Before any import: huggingface_hub reads its settings once.
for name in list(os.environ):
    if name.startswith(("HF_", "HUGGING_FACE_")) or name.lower().endswith("_proxy"):
        del os.environ[name]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the switch."""
    parser.addoption("--golden-update", action="store_true", help="rewrite the golden files")
