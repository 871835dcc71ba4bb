{{/* Checks across values. Each problem is a line: what is wrong, and what to do. */}}

{{- define "triton.problems" -}}
{{ include "triton.checkMoved" . }}
{{ include "triton.checkNames" . }}
{{ include "triton.checkEndpoints" . }}
{{ include "triton.checkAllow" . }}
{{ include "triton.checkNetwork" . }}
{{ include "triton.checkUpstreams" . }}
{{ include "triton.checkGpus" . }}
{{ include "triton.checkWeights" . }}
{{ include "triton.checkCache" . }}
{{ include "triton.checkReplicas" . }}
{{ include "triton.checkTimes" . }}
{{ include "triton.checkMemory" . }}
{{ include "triton.checkRoutes" . }}
{{ include "triton.checkGateway" . }}
{{ include "triton.checkPodTemplate" . }}
{{- end }}

{{/* Values of earlier charts. */}}
{{- define "triton.checkMoved" -}}
{{- if hasKey .Values "readOnlyRootFilesystem" }}
- readOnlyRootFilesystem has moved: use securityContext.readOnlyRootFilesystem.
{{- end }}
{{- end }}

{{- define "triton.checkNames" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,48}[a-z0-9])?$" (include "triton.name" .)) }}
- The name {{ include "triton.name" . }} (fullnameOverride, or that of the release) is that of the pool and its Service: use at most 50 lower-case letters, digits and -, starting with a letter.
{{- end }}
{{- if not .Values.image.repository }}
- image.repository is empty: build an image with images/triton/Dockerfile, or images/triton-cpu/Dockerfile for a pool without GPUs, push it, and set it here.
{{- end }}
{{- if and .Values.apiSecret.existingSecret .Values.apiSecret.value }}
- apiSecret.existingSecret and apiSecret.value are both set: keep one of them.
{{- end }}
{{- end }}

{{- define "triton.checkEndpoints" -}}
{{- if not (or .Values.endpoints .Values.operator.enabled) }}
- endpoints is empty, so the pods have nothing to serve: add one, or set operator.enabled=true and create LLMEndpoints later.
{{- end }}
{{- $seen := dict }}
{{- range .Values.endpoints }}
{{- if hasKey $seen .name }}
- endpoints: {{ .name }} is a duplicate name; rename one of them.
{{- end }}
{{- $_ := set $seen .name true }}
{{- if regexMatch "-(engine|guardrail)$" .name }}
- endpoints: {{ .name }} must not end in -engine or -guardrail, which are reserved for the models of an endpoint; rename it.
{{- end }}
{{- $pool := dig "pool" (include "triton.name" $) .spec }}
{{- if ne $pool (include "triton.name" $) }}
- endpoints: {{ .name }} has spec.pool: {{ $pool }}, but this release is the pool {{ include "triton.name" $ }}; remove spec.pool, or set fullnameOverride: {{ $pool }}.
{{- end }}
{{- range concat (dig "input" list .spec.guardrails) (dig "output" list .spec.guardrails) }}
{{- if and (dig "banned" "configMapRef" "" .) (not $.Values.operator.enabled) }}
- endpoints: rule {{ .name }} has banned.configMapRef, which the operator reads: set operator.enabled=true, or write the phrases in banned.phrases.
{{- end }}
{{- end }}
{{- end }}
{{- $size := include "triton.endpointsText" . | len }}
{{- if gt $size 786432 }}
- endpoints take {{ div $size 1024 }} KiB, and the maximum of a pool is 768 KiB; shorten the lists of phrases, or use two pools.
{{- end }}
{{- end }}

{{- define "triton.checkGpus" -}}
{{- $count := int .Values.gpu.count }}
{{- if hasKey (.Values.resources.limits | default dict) .Values.gpu.resourceName }}
- resources.limits has {{ .Values.gpu.resourceName }}: set gpu.count instead.
{{- end }}
{{- if and .Values.gpu.resourceClaims (eq $count 0) }}
- gpu.resourceClaims is set, but gpu.count is 0: set gpu.count to the number of GPUs that the claims bring.
{{- end }}
{{- if and .Values.gpu.resourceClaims (semverCompare "<1.34.0-0" .Capabilities.KubeVersion.Version) }}
- gpu.resourceClaims needs Kubernetes 1.34, where dynamic resource allocation is stable, and this is {{ .Capabilities.KubeVersion.Version }}: use a device plugin and gpu.resourceName, or upgrade.
{{- end }}
{{- if gt $count 0 }}
{{ include "triton.checkDevices" . }}
{{- end }}
{{- end }}

{{/* The rule of tritonllm.api.Engine: an engine uses tensor × pipeline × data GPUs, `device_ids` or the first ones. */}}
{{- define "triton.checkDevices" -}}
{{- $count := int .Values.gpu.count }}
{{- $idle := until $count }}
{{- $shares := dict }}
{{- range .Values.endpoints }}
{{- if eq (dig "engine" "type" "vllm" .spec) "vllm" }}
{{- $args := dig "engine" "args" dict .spec }}
{{- $gpus := mul (dig "tensor_parallel_size" 1 $args | int) (dig "pipeline_parallel_size" 1 $args | int) (dig "data_parallel_size" 1 $args | int) | int }}
{{- $devices := list }}
{{- range dig "device_ids" list $args | default (until $gpus) }}{{ $devices = append $devices (int .) }}{{ end }}
{{- if ne (len $devices) $gpus }}
- endpoints: {{ .name }} runs on {{ $gpus }} GPUs, but engine.args.device_ids has {{ len $devices }}; make them equal.
{{- end }}
{{- $needed := $gpus }}
{{- range $devices }}{{ $needed = max $needed (add 1 .) }}{{ end }}
{{- if gt (int $needed) $count }}
- endpoints: {{ .name }} needs {{ $needed }} GPUs (tensor_parallel_size × pipeline_parallel_size × data_parallel_size, or device_ids), but each pod has gpu.count {{ $count }}; raise it, or lower them.
{{- end }}
{{- /* 0.92 is vLLM's own default, the highest of all versions. */}}
{{- $share := dig "gpu_memory_utilization" 0.92 $args | float64 }}
{{- $name := .name }}
{{- range $devices }}
{{- $idle = without $idle . }}
{{- $_ := set $shares (toString .) (append (get $shares (toString .) | default list) (dict "name" $name "share" $share)) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $gpu := until $count }}
{{- $sum := 0.0 }}
{{- $engines := list }}
{{- range get $shares (toString $gpu) | default list }}
{{- $sum = addf $sum .share }}
{{- $engines = append $engines (printf "%s %.2f" .name .share) }}
{{- end }}
{{- if and (gt (len $engines) 1) (gt $sum 1.0001) }}
- endpoints share GPU {{ $gpu }} and would use {{ printf "%.2f" $sum }} of its memory ({{ join ", " $engines }}); lower engine.args.gpu_memory_utilization so that the sum is at most 1, set engine.args.device_ids to other GPUs, or use one pool each.
{{- end }}
{{- end }}
{{- /* With the operator, endpoints that are created later may use them. */}}
{{- if and $shares $idle (not .Values.operator.enabled) }}
- endpoints use {{ sub $count (len $idle) }} of the {{ $count }} GPUs of each pod (gpu.count), because engines begin with the first one: lower gpu.count, set engine.args.device_ids, or use one pool each.
{{- end }}
{{- end }}

{{- define "triton.checkWeights" -}}
{{- $weights := .Values.weights }}
{{- if and (include "triton.images" . | fromJsonArray) (semverCompare "<1.33.0-0" .Capabilities.KubeVersion.Version) }}
- weights.images, or spec.model.image of an endpoint, needs image volumes as in Kubernetes 1.33 or later, and this is {{ .Capabilities.KubeVersion.Version }}: upgrade, or use spec.model.repo.
{{- end }}
{{- if and $weights.gc.enabled (not $weights.enabled) }}
- weights.gc.enabled is true, but weights.enabled is false, so there is no volume: remove the one or enable the other.
{{- end }}
{{- if not $weights.enabled }}
{{- range .Values.endpoints }}
{{- $path := dig "model" "path" "" .spec }}
{{- if or (dig "model" "repo" "" .spec) (and $path (not (hasPrefix "/" $path))) }}
- endpoints: {{ .name }} needs weights, but weights.enabled is false; set it to true, or use engine.type: simulated.
{{- end }}
{{- end }}
{{- else }}
{{- if and (eq $weights.type "ExistingClaim") (not $weights.existingClaim) }}
- weights.type is ExistingClaim, but weights.existingClaim is empty: set the name of the claim.
{{- end }}
{{- if and (ne $weights.type "ExistingClaim") $weights.existingClaim }}
- weights.existingClaim is {{ $weights.existingClaim }}, but weights.type is {{ $weights.type }}: set weights.type: ExistingClaim, or remove the claim.
{{- end }}
{{- if and (eq $weights.type "Ephemeral") (not $weights.sync.enabled) }}
- weights.type is Ephemeral and weights.sync.enabled is false, so the volume would stay empty: enable sync, or use an ExistingClaim with the weights.
{{- end }}
{{- if and $weights.sync.enabled (include "triton.weightsReadOnly" .) }}
- {{ $weights.readOnly | ternary "weights.readOnly is true" "weights.accessMode is ReadOnlyMany" }}, so nothing can be downloaded into it: set weights.sync.enabled: false.
{{- end }}
{{- if and $weights.sync.tokenSecret.name (not $weights.sync.enabled) }}
- weights.sync.tokenSecret is set, but weights.sync.enabled is false, so the token is not used: remove the one or enable the other.
{{- end }}
{{- if and $weights.gc.enabled (or (eq $weights.type "Ephemeral") (eq $weights.accessMode "ReadWriteOncePod") (include "triton.weightsReadOnly" .)) }}
- weights.gc.enabled is true, but no other pod can write into the volume (weights.type {{ $weights.type }}, accessMode {{ $weights.accessMode }}): set weights.gc.enabled: false.
{{- end }}
{{- if and (ne $weights.type "Ephemeral") (has $weights.accessMode (list "ReadWriteOnce" "ReadWriteOncePod")) }}
{{- $most := include "triton.mostPods" . | int }}
{{- if gt $most 1 }}
- {{ $most }} pods cannot share weights with accessMode {{ $weights.accessMode }}, which only one node can mount: use a storage class with ReadWriteMany, weights.type: Ephemeral (a download for each pod), or one pod.
{{- end }}
{{- if ne (toString .Values.rollout.maxSurge) "0" }}
- rollout.maxSurge is {{ .Values.rollout.maxSurge }}, but a second pod may be unable to mount weights with accessMode {{ $weights.accessMode }}, so a rollout could block forever: set rollout.maxSurge: 0, or use ReadWriteMany or weights.type: Ephemeral.
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "triton.checkCache" -}}
{{- $cache := .Values.cache }}
{{- if and (eq $cache.type "ExistingClaim") (not $cache.existingClaim) }}
- cache.type is ExistingClaim, but cache.existingClaim is empty: set the name of the claim.
{{- end }}
{{- if and (ne $cache.type "ExistingClaim") $cache.existingClaim }}
- cache.existingClaim is {{ $cache.existingClaim }}, but cache.type is {{ $cache.type }}: set cache.type: ExistingClaim, or remove the claim.
{{- end }}
{{- if and (ne $cache.type "EmptyDir") (has $cache.accessMode (list "ReadWriteOnce" "ReadWriteOncePod")) (or (gt (include "triton.mostPods" . | int) 1) (ne (toString .Values.rollout.maxSurge) "0")) }}
- several pods cannot share a cache with accessMode {{ $cache.accessMode }}, which only one node can mount: use a storage class with ReadWriteMany, or cache.type: EmptyDir.
{{- end }}
{{- end }}

{{- define "triton.checkReplicas" -}}
{{- $scaling := .Values.autoscaling }}
{{- if $scaling.enabled }}
{{- if ne (int .Values.replicas) 1 }}
- replicas is {{ int .Values.replicas }}, but with autoscaling.enabled the autoscaler sets the number of pods: remove replicas, and set autoscaling.minReplicas.
{{- end }}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) }}
- autoscaling.minReplicas {{ int $scaling.minReplicas }} is greater than autoscaling.maxReplicas {{ int $scaling.maxReplicas }}: swap or correct them.
{{- end }}
{{- if and (eq $scaling.driver "KEDA") (not $scaling.keda.prometheusUrl) }}
- autoscaling.keda.prometheusUrl is empty: set the URL of Prometheus, such as http://prometheus.monitoring:9090.
{{- end }}
{{- if and (eq $scaling.driver "KEDA") (kindIs "float64" $scaling.keda.idleReplicaCount) (not $scaling.keda.triggers) }}
- autoscaling.keda.idleReplicaCount is 0, but no request reaches a pool without pods, so nothing would start one: add a trigger to autoscaling.keda.triggers, such as one of the type cron.
{{- end }}
{{- if and (eq $scaling.driver "HPA") $scaling.keda.prometheusUrl }}
- autoscaling.keda.prometheusUrl is set, but autoscaling.driver is HPA, which would not use it: set autoscaling.driver: KEDA, or remove the URL.
{{- end }}
{{- end }}
{{- if and (has (toString .Values.rollout.maxSurge) (list "0" "0%")) (has (toString .Values.rollout.maxUnavailable) (list "0" "0%")) }}
- rollout.maxSurge and rollout.maxUnavailable are both 0, so a rollout could never start: set one of them to 1.
{{- end }}
{{- end }}

{{- define "triton.checkTimes" -}}
{{- $drain := int .Values.drain.seconds }}
{{- range .Values.endpoints }}
{{- /* 300 is the endpoint's own default. */}}
{{- $timeout := dig "limits" "requestTimeoutSeconds" 300 .spec | float64 }}
{{- if gt $timeout (float64 $drain) }}
- endpoints: {{ .name }} allows requests of {{ $timeout }} s (limits.requestTimeoutSeconds), but a pod that stops ends them after drain.seconds {{ $drain }}: raise drain.seconds, or lower the limit.
{{- end }}
{{- end }}
{{- if le (int .Values.rollout.progressDeadlineSeconds) (int .Values.startup.timeoutSeconds) }}
- rollout.progressDeadlineSeconds {{ int .Values.rollout.progressDeadlineSeconds }} is not longer than startup.timeoutSeconds {{ int .Values.startup.timeoutSeconds }}, so a slow start would be a failed rollout: raise it, and add the time of a download.
{{- end }}
{{- end }}

{{- define "triton.checkMemory" -}}
{{- $gpus := int .Values.gpu.count }}
{{- $shared := include "triton.bytes" .Values.sharedMemory | int64 }}
{{- if and (gt $gpus 1) (lt $shared (include "triton.bytes" "8Gi" | int64)) }}
- sharedMemory {{ .Values.sharedMemory }} is too little for the processes of {{ $gpus }} GPUs, which exchange tensors in /dev/shm: set at least 8Gi.
{{- end }}
{{- with dig "limits" "memory" "" .Values.resources }}
{{- /* Each process of a GPU imports PyTorch and has a CUDA context, which take 2 to 3 GiB. */}}
{{- if and (gt $gpus 1) (lt (include "triton.bytes" . | int64) (add $shared (mul $gpus 4294967296))) }}
- resources.limits.memory {{ . }} is too little for {{ $gpus }} GPUs: set at least 4Gi for each, and sharedMemory {{ $.Values.sharedMemory }}.
{{- end }}
{{- if ge (include "triton.bytes" $.Values.sharedMemory | int64) (include "triton.bytes" . | int64) }}
- sharedMemory {{ $.Values.sharedMemory }} counts against resources.limits.memory {{ . }} and would use all of it: raise the limit.
{{- end }}
{{- end }}
{{- end }}

{{- define "triton.checkRoutes" -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
- ingress.hosts is empty: set at least one host.
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
- httpRoute.parentRefs is empty: set the Gateway of the route.
{{- end }}
{{- $pools := list }}
{{- range .Values.inferencePools }}{{ $pools = append $pools .endpoint }}{{ end }}
{{- if and .Values.httpRoute.inferencePool (not (has .Values.httpRoute.inferencePool $pools)) }}
- httpRoute.inferencePool is {{ .Values.httpRoute.inferencePool }}, but inferencePools has no entry of this endpoint: add one.
{{- end }}
{{- if and $pools (not .Values.gateway.enabled) }}
- inferencePools is set, but gateway.enabled is false, so the pods do not serve OpenAI's API: enable the gateway.
{{- end }}
{{- if ne (len $pools) (len (uniq $pools)) }}
- inferencePools has an endpoint twice: remove one of the entries.
{{- end }}
{{- end }}

{{/* A Kubernetes quantity of memory, such as 1.5Gi, in bytes. */}}
{{- define "triton.bytes" -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $quantity := toString . -}}
{{- mulf (regexFind "^[0-9.]+" $quantity | float64) (get $units (regexFind "[A-Za-z]*$" $quantity) | float64) | int64 -}}
{{- end }}

{{- define "triton.checkGateway" -}}
{{- $gateway := .Values.gateway }}
{{- $given := or $gateway.apiKeys.existingSecret $gateway.apiKeys.keys }}
{{- if and $gateway.allowAnonymous $given }}
- gateway.allowAnonymous is true, so gateway.apiKeys would not be asked for: remove the one or the other.
{{- end }}
{{- if and $gateway.apiKeys.existingSecret $gateway.apiKeys.keys }}
- gateway.apiKeys.existingSecret and gateway.apiKeys.keys are both set: keep one of them.
{{- end }}
{{- if and (not $gateway.enabled) (or $given $gateway.allowAnonymous) }}
- gateway.enabled is false, so its other values have no effect: remove them, or enable it.
{{- end }}
{{- end }}
