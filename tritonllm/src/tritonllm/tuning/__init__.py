"""`tritonllm tune`: which engine arguments and limits give an endpoint the most, within its latency objectives.

Optuna chooses the configurations (`search`), each is served and measured by `tritonllm.bench` (`attempts`), and what was
found is in one folder: the trials in SQLite, the best configuration as an endpoint file, and a report. What is decided
is pure: the values to choose from (`space`), a configuration as a file (`candidates`), what a measurement is worth
(`objectives`) and why a configuration cannot be used (`reasons`).
"""
