"""The Terraform module of a GPU cluster on AWS: valid, formatted, applied to a mock of AWS, and of one mind with the charts.

It needs Terraform and the AWS provider: from the registry, or from where TF_CLI_ARGS_init=-plugin-dir=… says.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import chart
from test_kubernetes_schemas import NEWEST, check

MODULE = Path(__file__).parents[1] / "aws-eks-gpu"


def terraform(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"CHECKPOINT_DISABLE": "1", "AWS_EC2_METADATA_DISABLED": "true"}
    return subprocess.run(
        ["terraform", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the module, with its provider."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")
    folder = tmp_path_factory.mktemp("terraform") / "module"
    shutil.copytree(MODULE, folder, ignore=shutil.ignore_patterns(".terraform*"))
    done = terraform(folder, "init", "-backend=false", "-input=false", "-no-color")
    if done.returncode:
        pytest.skip(f"terraform has no AWS provider: {done.stderr.strip()[-300:]}")
    return folder


def test_is_formatted_and_valid(module: Path) -> None:
    for arguments in (("fmt", "-check", "-recursive", "-diff"), ("validate", "-no-color")):
        done = terraform(module, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_can_be_applied_to_a_mock_of_aws(module: Path) -> None:
    done = terraform(module, "test", "-no-color")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed" in done.stdout


def test_a_pool_can_be_installed_with_the_values_that_it_gives() -> None:
    given = chart.load((MODULE / "tests" / "values.yaml").read_text())
    documents = chart.render(given | {"replicas": 2})
    for document in documents:
        check(document, NEWEST)
    spec = chart.pod(documents)
    assert spec["nodeSelector"] == given["nodeSelector"]
    assert spec["tolerations"] == given["tolerations"]


def test_the_example_for_eks_has_the_same_values() -> None:
    given = chart.load((MODULE / "tests" / "values.yaml").read_text())
    example = chart.load((MODULE.parents[1] / "examples" / "pools" / "eks.yaml").read_text())
    for name in ("nodeSelector", "tolerations"):
        assert example[name] == given[name]
    for name in ("storageClassName", "accessMode"):
        assert example["weights"][name] == given["weights"][name]
