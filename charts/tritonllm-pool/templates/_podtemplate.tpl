{{/* The template of the pods, before `podTemplate`. */}}
{{- define "triton.podTemplate" -}}
metadata:
  labels:
    {{- include "triton.lastingLabels" . | nindent 4 }}
    app.kubernetes.io/component: server
    {{- if .Values.inferencePools }}
    llm-d.ai/engine-type: tritonllm
    {{- end }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: server
    {{- if not .Values.operator.enabled }}
    tritonllm.io/endpoints-checksum: {{ include "triton.endpointsText" . | sha256sum }}
    {{- end }}
    {{- if eq .Values.metrics.scrape "Annotations" }}
    prometheus.io/scrape: "true"
    prometheus.io/port: "8002"
    prometheus.io/path: /metrics
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "triton.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "triton.gracePeriod" . }}
  {{- with .Values.podSecurityContext }}
  securityContext: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- with .Values.gpu.resourceClaims }}
  resourceClaims: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.gpu.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints: {{- include "triton.spread" . | nindent 4 }}
  {{- end }}
  {{- if and .Values.weights.enabled .Values.weights.sync.enabled }}
  initContainers:
    - {{ include "triton.weights" . | nindent 6 | trim }}
  {{- end }}
  containers:
    - {{ include "triton.server" . | nindent 6 | trim }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes: {{- include "triton.volumes" . | nindent 4 }}
{{- end }}

{{/* The template of the pods: `podTemplate` over the chart's. */}}
{{- define "triton.mergedPodTemplate" -}}
{{- if .Values.podTemplate -}}
{{- $template := include "triton.podTemplate" . | fromYaml -}}
{{- include "triton.strategicMerge" (dict "base" $template "over" .Values.podTemplate) -}}
{{ toYaml $template }}
{{- else -}}
{{ include "triton.podTemplate" . }}
{{- end }}
{{- end }}

{{/* A strategic merge patch of Kubernetes: `over` is merged into `base`, in place. Prints nothing. */}}
{{- define "triton.strategicMerge" -}}
{{- $base := .base -}}
{{- $keys := dict "containers" "name" "initContainers" "name" "volumes" "name" "env" "name" "volumeMounts" "mountPath" "ports" "containerPort" "imagePullSecrets" "name" "resourceClaims" "name" "hostAliases" "ip" "topologySpreadConstraints" "topologyKey" -}}
{{- range $field, $value := .over -}}
{{- $held := get $base $field -}}
{{- $key := get $keys $field -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $base $field -}}
{{- else if and (kindIs "map" $value) (kindIs "map" $held) -}}
{{- include "triton.strategicMerge" (dict "base" $held "over" $value) -}}
{{- else if and $key (kindIs "slice" $value) (kindIs "slice" $held) -}}
{{- range $item := $value -}}
{{- $found := dict -}}
{{- range $held }}{{ if eq (get . $key | toString) (get $item $key | toString) }}{{ $found = . }}{{ end }}{{ end -}}
{{- if $found -}}
{{- include "triton.strategicMerge" (dict "base" $found "over" $item) -}}
{{- else -}}
{{- $held = append $held (deepCopy $item) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $base $field $held -}}
{{- else -}}
{{- $_ := set $base $field $value -}}
{{- end -}}
{{- end -}}
{{- end }}
