{{/* What the operator may do where it follows endpoints. Secrets are not among it: each pool lets it read its own. */}}
{{- define "operator.rules" -}}
- apiGroups: [tritonllm.io]
  resources: [llmendpoints]
  verbs: [get, list, watch]
- apiGroups: [tritonllm.io]
  resources: [llmendpoints/status]
  verbs: [patch]
# What pods boot from.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch]
# The revision of a pool's pods.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# Weights of a revision, before its pods start.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}
