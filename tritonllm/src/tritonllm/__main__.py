"""`python -m tritonllm`."""

from tritonllm import cli

cli.main()
