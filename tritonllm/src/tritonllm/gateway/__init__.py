"""The gateway: OpenAI's API in front of the endpoints of a Triton server, with API keys and limits."""
