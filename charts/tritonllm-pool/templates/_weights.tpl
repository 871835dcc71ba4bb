{{/* The init container that brings the weights. It alone sees the token, and it takes no GPU. */}}
{{- define "triton.weights" -}}
name: weights
image: {{ include "triton.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
command: [tritonllm, weights, sync]
args:
  - --endpoints={{ include "triton.endpointsFile" . }}
  - --cache=/weights
  - --max-wait={{ int .Values.weights.sync.maxWaitSeconds }}
  - --termination-message=/dev/termination-log
  {{- if .Values.weights.sync.tokenSecret.name }}
  - --token-file=/var/run/secrets/hub/token
  {{- end }}
  {{- with .Values.weights.sync.endpointUrl }}
  - --endpoint-url={{ . }}
  {{- end }}
env:
  {{- include "triton.commonEnv" . | nindent 2 }}
  {{- include "triton.noGpuEnv" . | nindent 2 }}
  # Whatever the image says: here the Hub is asked.
  - {name: HF_HUB_OFFLINE, value: "0"}
  {{- with .Values.weights.sync.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
resources: {{- toYaml .Values.weights.sync.resources | nindent 2 }}
securityContext: {{- include "triton.containerSecurity" (dict "root" . "gpu" false) | nindent 2 }}
terminationMessagePolicy: File
volumeMounts:
  {{- include "triton.commonMounts" . | nindent 2 }}
  - {name: weights, mountPath: /weights{{ include "triton.weightsSubPath" . }}}
  {{- if .Values.weights.sync.tokenSecret.name }}
  - {name: hub-token, mountPath: /var/run/secrets/hub, readOnly: true}
  {{- end }}
{{- end }}

{{- define "triton.weightsSubPath" -}}
{{ with .Values.weights.subPath }}, subPath: {{ . | quote }}{{ end }}
{{- end }}

{{/* The images with weights of the pool, each once, as JSON. */}}
{{- define "triton.images" -}}
{{- $images := .Values.weights.images -}}
{{- range .Values.endpoints -}}
{{- with dig "model" "image" "" .spec }}{{ $images = append $images . }}{{ end -}}
{{- end -}}
{{ $images | uniq | toJson }}
{{- end }}

{{- define "triton.imageVolume" -}}
image-{{ regexFind "[0-9a-f]{64}$" . | trunc 16 }}
{{- end }}

{{/* The volume of the weights, by its kind. */}}
{{- define "triton.weightsVolume" -}}
name: weights
{{- if eq .Values.weights.type "Ephemeral" }}
ephemeral:
  volumeClaimTemplate:
    metadata:
      labels: {{- include "triton.lastingLabels" . | nindent 8 }}
    spec: {{- include "triton.weightsClaimSpec" . | nindent 6 }}
{{- else }}
persistentVolumeClaim:
  claimName: {{ include "triton.weightsClaim" . }}
  {{- if include "triton.weightsReadOnly" . }}
  readOnly: true
  {{- end }}
{{- end }}
{{- end }}

{{- define "triton.weightsClaimSpec" -}}
{{ include "triton.claimSpec" (dict "accessMode" .Values.weights.accessMode "storageClassName" .Values.weights.storageClassName "size" .Values.weights.size) }}
{{- end }}

{{/* Takes a dict of `accessMode`, `storageClassName` and `size`. */}}
{{- define "triton.claimSpec" -}}
accessModes: [{{ .accessMode }}]
{{- with .storageClassName }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end }}
