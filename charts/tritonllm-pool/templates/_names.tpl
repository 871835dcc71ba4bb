{{/* Names, labels and addresses. A pool is a release, and everything is called after the pool. */}}

{{/* Name of the pool, its Deployment and its Service; other objects begin with it. */}}
{{- define "triton.name" -}}
{{ .Values.fullnameOverride | default .Release.Name }}
{{- end }}

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
tritonllm.io/pool: {{ include "triton.name" . }}
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
{{ .Values.serviceAccount.create | ternary (.Values.serviceAccount.name | default (include "triton.name" .)) (.Values.serviceAccount.name | default "default") }}
{{- end }}

{{- define "triton.weightsClaim" -}}
{{ .Values.weights.existingClaim | default (printf "%s-weights" (include "triton.name" .)) }}
{{- end }}

{{- define "triton.cacheClaim" -}}
{{ .Values.cache.existingClaim | default (printf "%s-cache" (include "triton.name" .)) }}
{{- end }}

{{/* Whether a pod beside the running ones can mount the weights, too: Shared, Own, or None without weights. */}}
{{- define "triton.weightsSharing" -}}
{{- $shared := and (ne .Values.weights.type "Ephemeral") (has .Values.weights.accessMode (list "ReadWriteMany" "ReadOnlyMany")) -}}
{{ .Values.weights.enabled | ternary ($shared | ternary "Shared" "Own") "None" }}
{{- end }}

{{/* Whether the volume itself is read-only; the server's mount always is. Empty if not. */}}
{{- define "triton.weightsReadOnly" -}}
{{- if or .Values.weights.readOnly (eq .Values.weights.accessMode "ReadOnlyMany") -}}true{{- end -}}
{{- end }}

{{- define "triton.apiSecret" -}}
{{ .Values.apiSecret.existingSecret | default (printf "%s-api" (include "triton.name" .)) }}
{{- end }}

{{/* Name of the Secret with the gateway's API keys; empty if requests need none. */}}
{{- define "triton.apiKeys" -}}
{{- if and .Values.gateway.enabled (not .Values.gateway.allowAnonymous) -}}
{{ .Values.gateway.apiKeys.existingSecret | default (printf "%s-api-keys" (include "triton.name" .)) }}
{{- end -}}
{{- end }}

{{/* The ConfigMap that pods boot from: the chart's own, or the one that belongs to the operator alone. */}}
{{- define "triton.endpointsConfigMap" -}}
{{ include "triton.name" . }}-endpoints{{ if not .Values.operator.enabled }}-static{{ end }}
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

{{/* Seconds that `serve` may take to end after the drain: tritonllm.serve.STOP_SECONDS. */}}
{{- define "triton.stopSeconds" -}}20{{- end }}

{{/* Seconds that a pod gets to end: the sleep, the drain, and the end of `serve`. */}}
{{- define "triton.gracePeriod" -}}
{{ add .Values.drain.preStopSeconds .Values.drain.seconds (include "triton.stopSeconds" . | int) }}
{{- end }}

{{/* Labels that select the pool's series in Prometheus: a pod's label `tritonllm.io/pool` arrives under this name. */}}
{{- define "triton.series" -}}
namespace="{{ .Release.Namespace }}",tritonllm_io_pool="{{ include "triton.name" . }}"
{{- end }}

{{/* Ports with metrics: those of the models and of Triton, and those of the gateway. */}}
{{- define "triton.metricsPorts" -}}
- {name: metrics, port: 8002}
{{- if .Values.gateway.enabled }}
- {name: openai, port: 8080}
{{- end }}
{{- end }}

{{- define "triton.ipFamilies" -}}
{{- with .Values.service.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .Values.service.ipFamilies }}
ipFamilies: {{ toYaml . | nindent 2 }}
{{- end }}
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
  {{- toYaml (set (deepCopy .endpoint.spec) "pool" (include "triton.name" .root)) | nindent 2 }}
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
