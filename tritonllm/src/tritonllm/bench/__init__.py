"""`tritonllm bench`: how fast an endpoint answers, and how much it carries.

AIPerf generates the load, as a process of its own that is never imported, so that it can have an environment of its own:
it pins older releases of many packages. What is decided here is pure: AIPerf's command line (`aiperf`), what its files say
(`results`), tables and charts, the points of a sweep (`axes`), and the Job of a benchmark in a cluster (`jobs`). `measure`
and `pools` start the processes.
"""
