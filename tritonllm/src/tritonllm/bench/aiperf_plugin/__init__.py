"""A plug-in of AIPerf 0.13: its endpoint type `tritonllm`, which asks a pipeline by Triton's generate extension.

AIPerf finds it by the entry point `aiperf.plugins`, so that `tritonllm` has to be installed beside AIPerf.
"""
