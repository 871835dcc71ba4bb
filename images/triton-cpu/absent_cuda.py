"""Stands in for the CUDA libraries that PyTorch is linked to, where there will never be a GPU.

PyPI has PyTorch for GPUs only: it loads two gigabytes of CUDA libraries, of which nothing is called without a GPU but
the three smallest. The others are left out of the image, and this writes libraries of the same names and functions,
each of which ends the process. Run as `python absent_cuda.py SITE_PACKAGES`; needs binutils.
"""

from __future__ import annotations

import collections
import re
import subprocess
import sys
import tempfile
from pathlib import Path

_CUDA = re.compile(r"NEEDED +(lib(?:cu|nv|nccl)\S*\.so\.\d+)")
_FILE = re.compile(r"required from (\S+):")
_VERSION = re.compile(r"0x\w+ 0x\w+ \d+ (\S+)$")
_FUNCTION = re.compile(r"\*UND\*\s+\w+\s+(?:\((\S+)\)|Base)\s+(\S+)$")
# Functions without a version do not say whose they are; their names do.
_UNVERSIONED = {"nccl": "libnccl.so.2", "cusparseLt": "libcusparseLt.so.0"}

# Of one library: its functions, by version.
Functions = dict[str, set[str]]


def main(site_packages: Path) -> None:
    """Writes what is missing beside PyTorch's own libraries, where they look for it.

    Args:
        site_packages: has PyTorch in it, and those CUDA libraries that are real.
    """
    torch = site_packages / "torch/lib"
    missing: dict[str, Functions] = {}
    for library in sorted(torch.glob("libtorch*.so")):
        _collect(library, missing)
    for real in site_packages.glob("nvidia/*/lib/*"):
        missing.pop(real.name, None)
    for name, functions in missing.items():
        _write(torch / name, functions)
        print(f"{name}: {sum(map(len, functions.values()))} functions that must not be called")


def _collect(library: Path, into: dict[str, Functions]) -> None:
    """Adds what one of PyTorch's libraries takes from which CUDA library."""
    printed = _run("objdump", "-p", "-T", str(library))
    for name in _CUDA.findall(printed):
        into.setdefault(name, collections.defaultdict(set))
    files: dict[str, str] = {}
    file = ""
    for line in printed.splitlines():
        if found := _FILE.search(line):
            file = found[1]
        elif found := _VERSION.search(line):
            files[found[1]] = file
        elif found := _FUNCTION.search(line):
            version, function = found.groups()
            name = files.get(version) if version else _owner(function)
            if name in into:
                into[name][version or ""].add(function)


def _owner(function: str) -> str | None:
    return next((library for prefix, library in _UNVERSIONED.items() if function.startswith(prefix)), None)


def _write(library: Path, functions: Functions) -> None:
    names = sorted(set().union(*functions.values()))
    code = [f".globl {name}\n.type {name}, @function\n{name}:" for name in names]
    versions = [
        f"{version} {{ global: {'; '.join(sorted(of))}; }};" for version, of in functions.items() if version
    ]
    with tempfile.TemporaryDirectory() as directory:
        source, script, made = (Path(directory, name) for name in ("code.s", "versions", "code.o"))
        # One instruction for all of them: the one that is never valid.
        source.write_text("\n".join([*code, "ud2", ""]))
        script.write_text("\n".join(versions))
        _run("as", "-o", str(made), str(source))
        options = [f"--version-script={script}"] if versions else []
        _run("ld", "-shared", "-soname", library.name, *options, "-o", str(library), str(made))


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))
