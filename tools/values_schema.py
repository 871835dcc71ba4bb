"""Copies the schema of an endpoint into that of the pool chart's values, so that Helm refuses invalid endpoints.

Run `python tools/values_schema.py` after a change of `tritonllm.api`; `--check` only checks that
charts/tritonllm-pool/values.schema.json is current, as a test does. That file is written by hand, except for `$defs`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tritonllm import api

FILE = Path(__file__).parents[1] / "charts" / "tritonllm-pool" / "values.schema.json"


def definitions() -> dict[str, Any]:
    """The schemas of an endpoint's spec; `pool` is optional, because it is the release."""
    spec = api.Spec.model_json_schema(by_alias=True)
    parts: dict[str, Any] = spec.pop("$defs")
    spec["required"].remove("pool")
    parts["Spec"] = spec
    for part in parts.values():
        part.pop("title")
        for field in part["properties"].values():
            field.pop("title", None)
    return dict(sorted(parts.items()))


def current(text: str) -> str:
    """The file's text with the current schemas."""
    return json.dumps(json.loads(text) | {"$defs": definitions()}, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Writes the file, or fails if it is stale."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the file is stale")
    check = parser.parse_args().check
    text = FILE.read_text()
    if text == current(text):
        return
    if check:
        sys.exit(f"{FILE.name} is stale; run `python tools/values_schema.py`")
    FILE.write_text(current(text))
    print(f"wrote {FILE}")


if __name__ == "__main__":
    main()
