{{/* PromQL that more than one document needs. */}}

{{/* How much of each endpoint's capacity is in use or waited for; above 1, requests wait. */}}
{{- define "triton.saturation" -}}
{{- $series := include "triton.series" . -}}
(tritonllm_requests_running{ {{- $series -}} } + tritonllm_requests_waiting{ {{- $series -}} }) / tritonllm_request_capacity{ {{- $series -}} }
{{- end }}

{{- define "triton.saturationSum" -}}
sum(max by (pod) ({{ include "triton.saturation" . }}))
{{- end }}

{{/* KEDA's query. A pool of no pods has no series; that there is none on purpose is known to kube-state-metrics only. */}}
{{- define "triton.kedaQuery" -}}
{{ include "triton.saturationSum" . }}
{{- if kindIs "float64" .Values.autoscaling.keda.idleReplicaCount }} or sum(kube_deployment_spec_replicas{namespace="{{ .Release.Namespace }}",deployment="{{ include "triton.name" . }}"} == 0)
{{- end }}
{{- end }}
