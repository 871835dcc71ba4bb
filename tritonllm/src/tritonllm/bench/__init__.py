"""`tritonllm bench`: how fast an endpoint answers, and how much it carries.

AIPerf generates the load, as a process of its own that is never imported: its releases ask for other versions of shared
dependencies than `tritonllm` does. What is decided here is pure: AIPerf's command line (`aiperf`), what its files say
(`results`), tables (`tables`) and the points of a sweep (`axes`, `points`). `run` starts the processes.
"""
