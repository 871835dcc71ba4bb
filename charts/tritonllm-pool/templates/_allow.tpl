{{/* What endpoint authors may use, as `tritonllm serve --allow` and the operator read it. */}}
{{- define "triton.allow" -}}
{{- $allow := dict "remoteCode" .Values.allow.remoteCode "pickle" .Values.allow.pickle "repos" .Values.allow.repos "engineArgs" .Values.allow.engineArgs -}}
{{- /* Absent without values: earlier images do not know it. */ -}}
{{- with .Values.allow.upstreams }}{{ $_ := set $allow "upstreams" . }}{{ end -}}
{{ $allow | toJson }}
{{- end }}

{{/* Problems of endpoints in the values with what the same values allow. Engine arguments are checked by the operator. */}}
{{- define "triton.checkAllow" -}}
{{- if and .Values.allow.benchmarks (not .Values.benchmark.image) }}
- allow.benchmarks is true, but benchmark.image is empty: build the target bench of images/triton-cpu/Dockerfile, push it, and set it here.
{{- end }}
{{- if .Values.operator.enabled }}
{{- range .Values.endpoints }}
{{- $name := .name }}
{{- $model := dig "model" dict .spec }}
{{- if and (dig "trustRemoteCode" false $model) (not $.Values.allow.remoteCode) }}
- endpoints: {{ .name }} has model.trustRemoteCode, but allow.remoteCode is false, so the operator would refuse it: remove the one, or set the other for all authors of endpoints.
{{- end }}
{{- if and (dig "allowPickle" false $model) (not $.Values.allow.pickle) }}
- endpoints: {{ .name }} has model.allowPickle, but allow.pickle is false, so the operator would refuse it: remove the one, or set the other for all authors of endpoints.
{{- end }}
{{- with dig "repo" "" $model }}
{{- $organisation := printf "%s/*" (splitList "/" . | first) }}
{{- $revision := dig "revision" "main" $model }}
{{- $ways := list . $organisation "*" }}
{{- $found := false }}
{{- range $ways }}
{{- if or (has . $.Values.allow.repos) (has (printf "%s@%s" . $revision) $.Values.allow.repos) }}
{{- $found = true }}
{{- end }}
{{- end }}
{{- if not $found }}
- endpoints: {{ $name }} has model.repo {{ . }}, revision {{ $revision }}, which allow.repos does not contain, so the operator would refuse it: add {{ . }} or {{ $organisation }}.
{{- end }}
{{- end }}
{{- if eq (dig "engine" "type" "vllm" .spec) "openai" }}
{{- $args := dig "engine" "args" dict .spec }}
{{- $key := get $args "api_key_name" }}
{{- $found := false }}
{{- range $.Values.allow.upstreams }}
{{- if and (or (eq .url "*") (eq (trimSuffix "/" .url) (trimSuffix "/" (get $args "url")))) (or (not $key) (has $key .apiKeys) (has "*" .apiKeys)) }}
{{- $found = true }}
{{- end }}
{{- end }}
{{- if not $found }}
- endpoints: {{ $name }} sends requests to {{ get $args "url" }} with {{ if $key }}the API key {{ $key }}{{ else }}no API key{{ end }}, which allow.upstreams does not contain, so the operator would refuse it: add both.
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
