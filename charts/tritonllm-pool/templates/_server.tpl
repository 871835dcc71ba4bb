{{/* The container that serves. */}}
{{- define "triton.server" -}}
name: server
image: {{ include "triton.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
# No command: the entry point of the image for GPUs does something for drivers that are older than its CUDA.
args:
  - serve
  - {{ include "triton.endpointsFile" . }}
  {{- if .Values.weights.enabled }}
  - --weights=/weights
  {{- end }}
  - "--host=::"
  - --logs=stderr
  - --runtime={{ .Values.image.runtime }}
  - --drain-seconds={{ int .Values.drain.seconds }}
  - --load-timeout={{ int .Values.startup.timeoutSeconds }}
  - --api-secret-file=/var/run/secrets/tritonllm/api/key
  {{- if .Values.operator.enabled }}
  - --allow=/etc/tritonllm-allow/allow.json
  {{- end }}
  {{- if .Values.upstreams.apiKeysSecret }}
  - --upstream-keys=/var/run/secrets/tritonllm/upstream-keys
  {{- end }}
  {{- if .Values.gateway.enabled }}
  - --gateway-workers={{ int .Values.gateway.workers }}
  {{- if .Values.gateway.allowAnonymous }}
  - --allow-anonymous
  {{- else }}
  - --api-keys=/var/run/secrets/tritonllm/api-keys
  {{- end }}
  {{- range .Values.gateway.corsOrigins }}
  - --cors-origin={{ . }}
  {{- end }}
  {{- else }}
  - --no-gateway
  {{- end }}
env:
  {{- include "triton.commonEnv" . | nindent 2 }}
  # Weights come from the init container. Nothing is downloaded here.
  - {name: HF_HUB_OFFLINE, value: "1"}
  # Its family is that of Triton's HTTP and metrics.
  - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
  # What compilers keep outside XDG_CACHE_HOME.
  - {name: TRITON_CACHE_DIR, value: /home/tritonllm/.cache/triton}
  - {name: CUDA_CACHE_PATH, value: /home/tritonllm/.cache/nv}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  {{- if .Values.gateway.enabled }}
  - {name: openai, containerPort: 8080}
  {{- end }}
  - {name: http, containerPort: 8000}
  - {name: grpc, containerPort: 8001}
  - {name: metrics, containerPort: 8002}
  - {name: health, containerPort: 8003}
{{- include "triton.probes" . | nindent 0 }}
{{- if .Values.drain.preStopSeconds }}
lifecycle:
  # Load balancers need a moment to notice; only then the server starts to drain.
  preStop:
    sleep: {seconds: {{ int .Values.drain.preStopSeconds }}}
{{- end }}
resources: {{- include "triton.resources" . | nindent 2 }}
securityContext: {{- include "triton.containerSecurity" (dict "root" . "gpu" (gt (int .Values.gpu.count) 0)) | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  {{- include "triton.commonMounts" . | nindent 2 }}
  - {name: cache, mountPath: /home/tritonllm/.cache}
  - {name: shared-memory, mountPath: /dev/shm}
  - {name: api-secret, mountPath: /var/run/secrets/tritonllm/api, readOnly: true}
  {{- if .Values.operator.enabled }}
  - {name: allow, mountPath: /etc/tritonllm-allow, readOnly: true}
  {{- end }}
  {{- if include "triton.apiKeys" . }}
  - {name: api-keys, mountPath: /var/run/secrets/tritonllm/api-keys, readOnly: true}
  {{- end }}
  {{- if .Values.upstreams.apiKeysSecret }}
  - {name: upstream-keys, mountPath: /var/run/secrets/tritonllm/upstream-keys, readOnly: true}
  {{- end }}
  {{- if .Values.weights.enabled }}
  - {name: weights, mountPath: /weights, readOnly: true{{ include "triton.weightsSubPath" . }}}
  {{- end }}
  {{- range include "triton.images" . | fromJsonArray }}
  - {name: {{ include "triton.imageVolume" . }}, mountPath: {{ printf "/var/lib/tritonllm/images/%s" (regexFind "[0-9a-f]{64}$" .) }}, readOnly: true}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* All three ask the supervisor, which knows what Triton's own health URLs don't. */}}
{{- define "triton.probes" -}}
startupProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ divf .Values.startup.timeoutSeconds 5 | ceil | int }}
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /livez, port: health}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 3
{{- end }}

{{/* The container's resources with its GPUs: a limit like any other, or claims of dynamic resource allocation. */}}
{{- define "triton.resources" -}}
{{- $resources := deepCopy .Values.resources -}}
{{- if .Values.gpu.resourceClaims -}}
{{- $claims := list -}}
{{- range .Values.gpu.resourceClaims }}{{ $claims = append $claims (dict "name" .name) }}{{ end -}}
{{- $_ := set $resources "claims" $claims -}}
{{- else if gt (int .Values.gpu.count) 0 -}}
{{- $limits := merge (dict .Values.gpu.resourceName (int .Values.gpu.count)) ($resources.limits | default dict) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{ toYaml $resources }}
{{- end }}
