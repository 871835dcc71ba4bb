"""The commands of `tritonllm`, a module each; `cli` puts them together.

They import what is heavy inside their functions, so that `tritonllm --help` comes at once.
"""
