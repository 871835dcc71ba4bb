"""Puts the schema of an endpoint into that of the pool chart's values, so that Helm refuses what serve would refuse.

Run `python tools/values_schema.py` after a change of `tritonllm.api`; `--check` only says whether
charts/triton/values.schema.json is current, which a test asks. All of that file but `$defs` is written by hand.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tritonllm import api

FILE = Path(__file__).parents[1] / "charts" / "triton" / "values.schema.json"


def definitions() -> dict[str, Any]:
    """The schemas that an endpoint's spec is made of; `pool` is known, as it is the release."""
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
    """What the file should say, given what it says."""
    return json.dumps(json.loads(text) | {"$defs": definitions()}, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Writes the file, or says that it is not current."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail if the file is not current"
    )
    check = parser.parse_args().check
    text = FILE.read_text()
    if text == current(text):
        return
    if check:
        sys.exit(f"{FILE.name} is not current; run `python tools/values_schema.py`")
    FILE.write_text(current(text))
    print(f"wrote {FILE}")


if __name__ == "__main__":
    main()
