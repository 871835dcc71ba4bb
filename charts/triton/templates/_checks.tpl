{{/* Mistakes that one value alone doesn't show. Each check writes a line for each mistake: what is wrong, and the way out. */}}

{{- define "triton.problems" -}}
{{ include "triton.checkNames" . }}
{{ include "triton.checkEndpoints" . }}
{{ include "triton.checkGpus" . }}
{{ include "triton.checkWeights" . }}
{{ include "triton.checkReplicas" . }}
{{ include "triton.checkTimes" . }}
{{ include "triton.checkMemory" . }}
{{ include "triton.checkRoutes" . }}
{{- end }}

{{- define "triton.checkNames" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,48}[a-z0-9])?$" .Release.Name) }}
- The release is called {{ .Release.Name }}, and so would be its Service and its pool: use at most 50 lower-case letters, digits and -, with a letter first.
{{- end }}
{{- if not .Values.image.repository }}
- image.repository is empty: build an image with images/triton/Dockerfile, or images/triton-cpu/Dockerfile for a pool without GPUs, push it, and name it here.
{{- end }}
{{- if and .Values.apiSecret.existingSecret .Values.apiSecret.value }}
- apiSecret.existingSecret and apiSecret.value are both set: keep one of them.
{{- end }}
{{- end }}

{{- define "triton.checkEndpoints" -}}
{{- if not (or .Values.endpoints .Values.operator.enabled) }}
- endpoints is empty, so the pods would have nothing to serve: add one, or set operator.enabled=true and create LLMEndpoints later.
{{- end }}
{{- $seen := dict }}
{{- range .Values.endpoints }}
{{- if hasKey $seen .name }}
- endpoints: {{ .name }} is there twice; rename one, as clients ask it by its name.
{{- end }}
{{- $_ := set $seen .name true }}
{{- if regexMatch "-(engine|guardrail)$" .name }}
- endpoints: {{ .name }} must not end in -engine or -guardrail, which are the names of an endpoint's parts; rename it.
{{- end }}
{{- $pool := dig "pool" $.Release.Name .spec }}
{{- if ne $pool $.Release.Name }}
- endpoints: {{ .name }} says spec.pool: {{ $pool }}, but this release is the pool {{ $.Release.Name }}; remove spec.pool, or install the release under that name.
{{- end }}
{{- end }}
{{- $size := include "triton.endpointsText" . | len }}
{{- if gt $size 786432 }}
- endpoints take {{ div $size 1024 }} KiB and a pool may have 768 KiB; shorten the lists of phrases, or make two pools of them.
{{- end }}
{{- end }}

{{- define "triton.checkGpus" -}}
{{- $count := int .Values.gpu.count }}
{{- if hasKey (.Values.resources.limits | default dict) .Values.gpu.resourceName }}
- resources.limits names {{ .Values.gpu.resourceName }}: say how many GPUs by gpu.count instead.
{{- end }}
{{- if gt $count 0 }}
{{- $sum := 0.0 }}
{{- $engines := list }}
{{- range .Values.endpoints }}
{{- if eq (dig "engine" "type" "vllm" .spec) "vllm" }}
{{- $args := dig "engine" "args" dict .spec }}
{{- $tensor := dig "tensor_parallel_size" 1 $args | int }}
{{- $pipeline := dig "pipeline_parallel_size" 1 $args | int }}
{{- if ne (mul $tensor $pipeline | int) $count }}
- endpoints: {{ .name }} runs on {{ mul $tensor $pipeline }} GPUs (tensor_parallel_size {{ $tensor }} × pipeline_parallel_size {{ $pipeline }}), but each pod has gpu.count {{ $count }}; make them equal.
{{- end }}
{{- /* 0.92 is vLLM's own default, the highest of all versions. */}}
{{- $part := dig "gpu_memory_utilization" 0.92 $args | float64 }}
{{- $sum = addf $sum $part }}
{{- $engines = append $engines (printf "%s %.2f" .name $part) }}
{{- end }}
{{- end }}
{{- if and (gt (len $engines) 1) (gt $sum 1.0001) }}
- endpoints share each GPU and would take {{ printf "%.2f" $sum }} of its memory ({{ join ", " $engines }}); lower engine.args.gpu_memory_utilization so that they add up to 1 at most.
{{- end }}
{{- end }}
{{- end }}

{{- define "triton.checkWeights" -}}
{{- $weights := .Values.weights }}
{{- if not $weights.enabled }}
{{- range .Values.endpoints }}
{{- $path := dig "model" "path" "" .spec }}
{{- if or (dig "model" "repo" "" .spec) (and $path (not (hasPrefix "/" $path))) }}
- endpoints: {{ .name }} needs weights, but weights.enabled is false; set it to true, or use engine.type: simulated.
{{- end }}
{{- end }}
{{- else }}
{{- if and (eq $weights.type "ExistingClaim") (not $weights.existingClaim) }}
- weights.type is ExistingClaim, but weights.existingClaim is empty: name the claim.
{{- end }}
{{- if and (ne $weights.type "ExistingClaim") $weights.existingClaim }}
- weights.existingClaim is {{ $weights.existingClaim }}, but weights.type is {{ $weights.type }}: set weights.type: ExistingClaim, or remove the claim.
{{- end }}
{{- if and (eq $weights.type "Ephemeral") (not $weights.sync.enabled) }}
- weights.type is Ephemeral and weights.sync.enabled is false, so the volume would stay empty: sync, or bring an ExistingClaim with the weights.
{{- end }}
{{- if and $weights.sync.enabled (eq $weights.accessMode "ReadOnlyMany") }}
- weights.accessMode is ReadOnlyMany, so nothing can be downloaded into it: set weights.sync.enabled: false.
{{- end }}
{{- if and $weights.sync.tokenSecret.name (not $weights.sync.enabled) }}
- weights.sync.tokenSecret is set, but weights.sync.enabled is false, so nobody would use the token: remove one of them.
{{- end }}
{{- if and (ne $weights.type "Ephemeral") (has $weights.accessMode (list "ReadWriteOnce" "ReadWriteOncePod")) }}
{{- $most := include "triton.mostPods" . | int }}
{{- if gt $most 1 }}
- {{ $most }} pods can't share weights of accessMode {{ $weights.accessMode }}, which one node can mount: use a storage class with ReadWriteMany, weights.type: Ephemeral (a download for each pod), or one pod.
{{- end }}
{{- if ne (toString .Values.rollout.maxSurge) "0" }}
- rollout.maxSurge is {{ .Values.rollout.maxSurge }}, but a second pod may not get the weights of accessMode {{ $weights.accessMode }}, so a rollout could wait for ever: set rollout.maxSurge: 0, or use ReadWriteMany or weights.type: Ephemeral.
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "triton.checkReplicas" -}}
{{- $scaling := .Values.autoscaling }}
{{- if $scaling.enabled }}
{{- if ne (int .Values.replicas) 1 }}
- replicas is {{ int .Values.replicas }}, but with autoscaling.enabled the number of pods is the autoscaler's: remove replicas, and set autoscaling.minReplicas.
{{- end }}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) }}
- autoscaling.minReplicas {{ int $scaling.minReplicas }} is over autoscaling.maxReplicas {{ int $scaling.maxReplicas }}: swap or correct them.
{{- end }}
{{- if and (eq $scaling.driver "KEDA") (not $scaling.keda.prometheusUrl) }}
- autoscaling.keda.prometheusUrl is empty: say where KEDA finds Prometheus, such as http://prometheus.monitoring:9090.
{{- end }}
{{- if and (eq $scaling.driver "HPA") $scaling.keda.prometheusUrl }}
- autoscaling.keda.prometheusUrl is set, but autoscaling.driver is HPA, which would not use it: set autoscaling.driver: KEDA, or remove the URL.
{{- end }}
{{- end }}
{{- if and (has (toString .Values.rollout.maxSurge) (list "0" "0%")) (has (toString .Values.rollout.maxUnavailable) (list "0" "0%")) }}
- rollout.maxSurge and rollout.maxUnavailable are both 0, so a rollout could never begin: set one of them to 1.
{{- end }}
{{- end }}

{{- define "triton.checkTimes" -}}
{{- $drain := int .Values.drain.seconds }}
{{- range .Values.endpoints }}
{{- /* 300 is the endpoint's own default. */}}
{{- $timeout := dig "limits" "requestTimeoutSeconds" 300 .spec | float64 }}
{{- if gt $timeout (float64 $drain) }}
- endpoints: {{ .name }} lets a request take {{ $timeout }} s (limits.requestTimeoutSeconds), but a pod that stops cuts it after drain.seconds {{ $drain }}: raise drain.seconds, or lower the limit.
{{- end }}
{{- end }}
{{- if le (int .Values.rollout.progressDeadlineSeconds) (int .Values.startup.timeoutSeconds) }}
- rollout.progressDeadlineSeconds {{ int .Values.rollout.progressDeadlineSeconds }} is not longer than startup.timeoutSeconds {{ int .Values.startup.timeoutSeconds }}, so a slow start would count as a failed rollout: raise it, with the time of a download on top.
{{- end }}
{{- end }}

{{- define "triton.checkMemory" -}}
{{- with dig "limits" "memory" "" .Values.resources }}
{{- if ge (include "triton.bytes" $.Values.sharedMemory | int64) (include "triton.bytes" . | int64) }}
- sharedMemory {{ $.Values.sharedMemory }} counts against resources.limits.memory {{ . }} and would use all of it: raise the limit.
{{- end }}
{{- end }}
{{- end }}

{{- define "triton.checkRoutes" -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
- ingress.hosts is empty: name at least one host.
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
- httpRoute.parentRefs is empty: name the Gateway that the route belongs to.
{{- end }}
{{- end }}

{{/* A Kubernetes quantity of memory, such as 1.5Gi, in bytes. */}}
{{- define "triton.bytes" -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $quantity := toString . -}}
{{- mulf (regexFind "^[0-9.]+" $quantity | float64) (get $units (regexFind "[A-Za-z]*$" $quantity) | float64) | int64 -}}
{{- end }}
