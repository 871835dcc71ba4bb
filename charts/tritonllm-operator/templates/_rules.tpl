{{/* What the operator may do where it follows endpoints: it reads, and says how endpoints are. What it writes beside that,
     and the one Secret that it reads, are granted by each pool in its own namespace. */}}
{{- define "operator.rules" -}}
- apiGroups: [tritonllm.io]
  resources: [llmendpoints]
  verbs: [get, list, watch]
- apiGroups: [tritonllm.io]
  resources: [llmendpoints/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [configmaps, pods]
  verbs: [get, list, watch]
- apiGroups: [apps]
  resources: [deployments, replicasets]
  verbs: [get, list, watch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}
