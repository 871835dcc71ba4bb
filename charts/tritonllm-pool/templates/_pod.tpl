{{/* What the containers of a pod share, and the pod's volumes. */}}

{{- define "triton.commonEnv" -}}
- {name: HOME, value: /home/tritonllm}
- {name: XDG_CACHE_HOME, value: /home/tritonllm/.cache}
- {name: TMPDIR, value: /tmp}
{{- if .Values.operator.enabled }}
- name: TRITONLLM_REVISION
  valueFrom: {fieldRef: {fieldPath: "metadata.annotations['tritonllm.io/revision']"}}
{{- end }}
{{- end }}

{{- define "triton.commonMounts" -}}
- {name: endpoints, mountPath: /etc/tritonllm, readOnly: true}
- {name: tmp, mountPath: /tmp}
- {name: home, mountPath: /home/tritonllm}
{{- end }}

{{/* For containers without a GPU: images of NVIDIA ask for all GPUs of the node, and get them where nothing forbids it. */}}
{{- define "triton.noGpuEnv" -}}
- {name: NVIDIA_VISIBLE_DEVICES, value: void}
{{- end }}

{{/* The security context of a container. Takes a dict of `root` and `gpu`, whether it has GPUs. */}}
{{- define "triton.containerSecurity" -}}
{{- /* With CDI, the hooks of NVIDIA's container toolkit write into the root file system. */ -}}
{{- $default := dict "readOnlyRootFilesystem" (not .gpu) -}}
{{- mergeOverwrite $default (deepCopy (.root.Values.securityContext | default dict)) | toYaml }}
{{- end }}

{{- define "triton.volumes" -}}
- name: endpoints
  configMap: {name: {{ include "triton.endpointsConfigMap" . }}}
{{- if .Values.operator.enabled }}
- name: allow
  configMap: {name: {{ include "triton.name" . }}-allow}
{{- end }}
- name: api-secret
  secret: {secretName: {{ include "triton.apiSecret" . }}, items: [{key: {{ .Values.apiSecret.key }}, path: key}]}
{{- if include "triton.apiKeys" . }}
- name: api-keys
  secret:
    secretName: {{ include "triton.apiKeys" . }}
    {{- if not .Values.gateway.apiKeys.existingSecret }}
    items: [{key: keys.yaml, path: keys.yaml}]
    {{- end }}
{{- end }}
{{- with .Values.upstreams.apiKeysSecret }}
- name: upstream-keys
  secret: {secretName: {{ . }}}
{{- end }}
- name: tmp
  emptyDir: {}
- name: home
  emptyDir: {}
- name: cache
  {{- if eq .Values.cache.type "EmptyDir" }}
  emptyDir: {}
  {{- else }}
  persistentVolumeClaim: {claimName: {{ include "triton.cacheClaim" . }}}
  {{- end }}
- name: shared-memory
  emptyDir: {medium: Memory, sizeLimit: {{ .Values.sharedMemory }}}
{{- if .Values.weights.enabled }}
- {{ include "triton.weightsVolume" . | nindent 2 | trim }}
{{- if .Values.weights.sync.tokenSecret.name }}
- name: hub-token
  secret:
    secretName: {{ .Values.weights.sync.tokenSecret.name }}
    items: [{key: {{ .Values.weights.sync.tokenSecret.key }}, path: token}]
{{- end }}
{{- end }}
{{- range include "triton.images" . | fromJsonArray }}
- name: {{ include "triton.imageVolume" . }}
  image: {reference: {{ . }}, pullPolicy: IfNotPresent}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The pool's spread constraints; one without a selector means the pool's own pods. */}}
{{- define "triton.spread" -}}
{{- $own := dict "matchLabels" (include "triton.selector" . | fromYaml) -}}
{{- range .Values.topologySpreadConstraints }}
- {{ set (deepCopy .) "labelSelector" (.labelSelector | default $own) | toYaml | nindent 2 | trim }}
{{- end }}
{{- end }}
