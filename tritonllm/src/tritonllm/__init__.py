"""LLM endpoints with guardrails and streaming on Triton, from one YAML file."""
