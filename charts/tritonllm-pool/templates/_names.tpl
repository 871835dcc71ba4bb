{{/* Names, labels and addresses. A pool is a release: everything is called after it. */}}

{{- define "triton.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{ include "triton.lastingLabels" . }}
{{- end }}

{{/* Labels without versions: what is in a pod's template must not roll the pods with every release of the chart. */}}
{{- define "triton.lastingLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
tritonllm.io/pool: {{ .Release.Name }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What a pod of the pool is known by. Never changes: a Deployment's selector can't. */}}
{{- define "triton.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end }}

{{- define "triton.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{ .Values.image.repository }}:{{ $tag }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "triton.serviceAccountName" -}}
{{ .Values.serviceAccount.create | ternary (.Values.serviceAccount.name | default .Release.Name) (.Values.serviceAccount.name | default "default") }}
{{- end }}

{{- define "triton.weightsClaim" -}}
{{ .Values.weights.existingClaim | default (printf "%s-weights" .Release.Name) }}
{{- end }}

{{/* Whether a pod beside the running ones can mount the weights, too: Shared, Own, or None without weights. */}}
{{- define "triton.weightsSharing" -}}
{{- $shared := and (ne .Values.weights.type "Ephemeral") (has .Values.weights.accessMode (list "ReadWriteMany" "ReadOnlyMany")) -}}
{{ .Values.weights.enabled | ternary ($shared | ternary "Shared" "Own") "None" }}
{{- end }}

{{- define "triton.apiSecret" -}}
{{ .Values.apiSecret.existingSecret | default (printf "%s-api" .Release.Name) }}
{{- end }}

{{/* The ConfigMap that pods boot from: the chart's own, or the one that belongs to the operator alone. */}}
{{/* Name of the Secret with the gateway's API keys; empty if requests need none. */}}
{{- define "triton.apiKeys" -}}
{{- if and .Values.gateway.enabled (not .Values.gateway.allowAnonymous) -}}
{{ .Values.gateway.apiKeys.existingSecret | default (printf "%s-api-keys" .Release.Name) }}
{{- end -}}
{{- end }}

{{- define "triton.endpointsConfigMap" -}}
{{ .Release.Name }}-endpoints{{ if not .Values.operator.enabled }}-static{{ end }}
{{- end }}

{{/* Where a pod finds its endpoints. The operator keeps a file for each revision of the pods; the revision is an
     annotation of the pod, and absent from the pods that Helm made. */}}
{{- define "triton.endpointsFile" -}}
/etc/tritonllm/{{ .Values.operator.enabled | ternary "revision-$(TRITONLLM_REVISION).yaml" "endpoints.yaml" }}
{{- end }}

{{/* The most pods that may run at once, apart from those of a rollout. */}}
{{- define "triton.mostPods" -}}
{{ .Values.autoscaling.enabled | ternary .Values.autoscaling.maxReplicas .Values.replicas | int }}
{{- end }}

{{/* Seconds that a pod gets to end: the sleep, the drain, and 15 for unloading the models. */}}
{{- define "triton.gracePeriod" -}}
{{ add .Values.drain.preStopSeconds .Values.drain.seconds 15 }}
{{- end }}

{{/* Labels that select the pool's series in Prometheus: a pod's label `tritonllm.io/pool` arrives under this name. */}}
{{- define "triton.series" -}}
namespace="{{ .Release.Namespace }}",tritonllm_io_pool="{{ .Release.Name }}"
{{- end }}

{{/* One endpoint as a document. Takes a dict of `root`, `endpoint` and, for the API server, `labels`. */}}
{{- define "triton.endpoint" -}}
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata:
  name: {{ .endpoint.name }}
  {{- with .labels }}
  labels: {{- . | nindent 4 }}
  {{- end }}
spec:
  {{- toYaml (set (deepCopy .endpoint.spec) "pool" .root.Release.Name) | nindent 2 }}
{{- end }}

{{/* All endpoints as one file. */}}
{{- define "triton.endpointsText" -}}
{{- range $index, $endpoint := .Values.endpoints }}
{{- if $index }}
---
{{ end }}
{{- include "triton.endpoint" (dict "root" $ "endpoint" $endpoint) }}
{{- end }}
{{- end }}
