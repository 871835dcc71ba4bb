"""One YAML, one guarded and streaming LLM endpoint on Triton."""
