"""Records the fields of an LLMEndpoint's `spec` that this version knows, for operators of later versions.

Run `python tools/known_fields.py` after a change of `tritonllm.api`; `--check` only checks that the file is current, as a
unit test does. The files of earlier releases stay as they were when they were released.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

import crd

DIRECTORY = Path(__file__).parents[1] / "operator" / "src" / "tritonllm_operator" / "known_fields"


def known(schema: crd.Schema) -> Any:
    """An object's fields, a text's permitted values, or None for what is not limited; a list is like its items."""
    if "items" in schema:
        return known(schema["items"])
    if "properties" in schema:
        return {name: known(inner) for name, inner in schema["properties"].items()}
    return schema.get("enum")


def file() -> Path:
    """The file of this version."""
    return DIRECTORY / f"{importlib.metadata.version('tritonllm')}.json"


def text() -> str:
    """What the file has to say."""
    return json.dumps(known(crd.spec()), indent=1, sort_keys=True) + "\n"


def main() -> None:
    """Writes the file, or says that it is stale."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the file is stale")
    check = parser.parse_args().check
    if file().is_file() and file().read_text() == text():
        return
    if check:
        sys.exit(f"stale: {file().name}; run `python tools/known_fields.py`")
    file().parent.mkdir(exist_ok=True)
    file().write_text(text())
    print(f"wrote {file()}")


if __name__ == "__main__":
    main()
