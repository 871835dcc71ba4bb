{{/* PromQL that more than one document needs. */}}

{{/* How much of each endpoint's capacity is in use or waited for; above 1, requests wait. */}}
{{- define "triton.saturation" -}}
{{- $series := include "triton.series" . -}}
(tritonllm_requests_running{ {{- $series -}} } + tritonllm_requests_waiting{ {{- $series -}} }) / tritonllm_request_capacity{ {{- $series -}} }
{{- end }}

{{- define "triton.saturationSum" -}}
sum(max by (pod) ({{ include "triton.saturation" . }}))
{{- end }}
