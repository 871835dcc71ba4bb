"""The operator: LLMEndpoint resources in, model config changes on the pods of a pool out."""
