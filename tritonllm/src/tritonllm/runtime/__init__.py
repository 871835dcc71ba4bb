"""What runs inside Triton: the engine, the guardrail and the pipeline of an endpoint."""
