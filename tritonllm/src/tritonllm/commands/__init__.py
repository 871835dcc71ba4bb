"""The commands of `tritonllm`, one module each; `cli` combines them.

Heavy imports are inside the functions, so that `tritonllm --help` is fast.
"""
