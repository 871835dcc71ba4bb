"""A server process some of whose endpoints are bad, by their names: run in place of `server.py`.

`forks`: its engine has a worker process that does not end by itself.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tritonllm import api, render, serve

_BEFORE = {
    "forks-engine": b"import subprocess\nsubprocess.Popen(['sleep', '600'])",
}
_render = render.repository


def repository(endpoints: Iterable[api.LLMEndpoint], **kwargs: Any) -> render.Repository:
    rendered = _render(endpoints, **kwargs)
    for model in rendered:
        if before := _BEFORE.get(model):
            rendered[model]["1/model.py"] = before + b"\n" + rendered[model]["1/model.py"]
    return rendered


if __name__ == "__main__":
    render.repository = repository
    given = json.loads(sys.argv[1])
    given["files"] = tuple(Path(file) for file in given["files"])
    sys.exit(serve.run(serve.Options(**given)))
