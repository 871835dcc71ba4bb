{{/* What `podTemplate` must not change, because the pool or its operator relies on it. */}}
{{- define "triton.checkPodTemplate" -}}
{{- if .Values.podTemplate }}
{{- $base := include "triton.podTemplate" . | fromYaml }}
{{- $merged := include "triton.mergedPodTemplate" . | fromYaml }}
{{- range $key := append (keys (include "triton.selector" . | fromYaml) | sortAlpha) "tritonllm.io/pool" }}
{{- if ne (get $merged.metadata.labels $key) (get $base.metadata.labels $key) }}
- podTemplate changes the label {{ $key }}, by which the pods are found: remove it.
{{- end }}
{{- end }}
{{- range $key := list "tritonllm.io/endpoints-checksum" "tritonllm.io/revision" }}
{{- if ne (get $merged.metadata.annotations $key) (get $base.metadata.annotations $key) }}
- podTemplate changes the annotation {{ $key }}, which is the chart's and the operator's: remove it.
{{- end }}
{{- end }}
{{- if $merged.spec.automountServiceAccountToken }}
- podTemplate sets automountServiceAccountToken, but no container of a pool has a token of Kubernetes: remove it, and mount a projected token into a container of your own.
{{- end }}
{{- $needed := int $base.spec.terminationGracePeriodSeconds }}
{{- if lt (int $merged.spec.terminationGracePeriodSeconds) $needed }}
- podTemplate sets terminationGracePeriodSeconds {{ int $merged.spec.terminationGracePeriodSeconds }}, but a pod needs {{ $needed }} to drain: lower drain.seconds instead.
{{- end }}
{{- $before := dict }}
{{- range concat ($base.spec.initContainers | default list) $base.spec.containers }}
{{- $_ := set $before .name . }}
{{- end }}
{{- range concat ($merged.spec.initContainers | default list) $merged.spec.containers }}
{{- if and (has .name (list "server" "weights")) (hasKey $before .name) }}
{{ include "triton.checkOwnContainer" (dict "before" (get $before .name) "after" . "gpu" $.Values.gpu.resourceName) }}
{{- end }}
{{ include "triton.checkMounts" . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Takes `before` and `after`: one of the chart's own containers without and with `podTemplate`. */}}
{{- define "triton.checkOwnContainer" -}}
{{- $name := .after.name }}
{{- range $field := list "command" "args" }}
{{- if ne (get $.before $field | toJson) (get $.after $field | toJson) }}
- podTemplate changes {{ $field }} of the container {{ $name }}, which follow from other values: remove it.
{{- end }}
{{- end }}
{{- if ne (dig "resources" "limits" .gpu 0 .before | int) (dig "resources" "limits" .gpu 0 .after | int) }}
- podTemplate changes the {{ .gpu }} of the container {{ $name }}: set gpu.count instead.
{{- end }}
{{- $env := dict }}
{{- range .after.env }}
{{- $_ := set $env .name . }}
{{- end }}
{{- range .before.env }}
{{- if and (has .name (list "HF_HUB_OFFLINE" "NVIDIA_VISIBLE_DEVICES" "POD_IP" "TRITONLLM_REVISION")) (ne (toJson .) (get $env .name | toJson)) }}
- podTemplate changes the variable {{ .name }} of the container {{ $name }}, which the pool relies on: remove it.
{{- end }}
{{- end }}
{{- end }}

{{/* Takes a container, with `podTemplate`. */}}
{{- define "triton.checkMounts" -}}
{{- $name := .name }}
{{- if ne $name "weights" }}
{{- range .volumeMounts }}
{{- if eq .name "hub-token" }}
- podTemplate mounts the token of the Hub into the container {{ $name }}, but only the container weights may have it: remove it.
{{- end }}
{{- if and (eq .name "weights") (not .readOnly) }}
- podTemplate mounts the weights into the container {{ $name }} for writing: set readOnly: true.
{{- end }}
{{- end }}
{{- end }}
{{- end }}
