{{/* Whether clients outside the cluster are let in. Empty if not. */}}
{{- define "triton.exposed" -}}
{{- if or .Values.ingress.enabled .Values.httpRoute.enabled .Values.inferencePools (ne .Values.service.type "ClusterIP") -}}true{{- end -}}
{{- end }}

{{/* Who reads metrics, as YAML; endpoint pickers of InferencePools do, too. */}}
{{- define "triton.metricsPeers" -}}
{{- $pickers := ternary (list (dict "podSelector" dict)) list (not (empty .Values.inferencePools)) -}}
{{- with concat .Values.networkPolicy.metrics $pickers }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* What a download needs: DNS and the Hub, which by default is any public address. */}}
{{- define "triton.egressToHub" -}}
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
- to:
    {{- if .Values.networkPolicy.hub.peers }}
    {{- toYaml .Values.networkPolicy.hub.peers | nindent 4 }}
    {{- else }}
    # Not the cluster, nor the metadata service of a cloud.
    - ipBlock:
        cidr: 0.0.0.0/0
        except: [10.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16]
    - ipBlock:
        cidr: ::/0
        except: ["fc00::/7", "fe80::/10"]
    {{- end }}
  ports:
    {{- range .Values.networkPolicy.hub.ports }}
    - port: {{ int . }}
    {{- end }}
{{- end }}

{{/* What the pods reach: the Hub, if they download, and upstreams. */}}
{{- define "triton.egressOfPods" -}}
{{- $hub := and .Values.weights.enabled .Values.weights.sync.enabled -}}
{{- if $hub }}
{{- include "triton.egressToHub" . }}
{{- end }}
{{- with .Values.networkPolicy.upstreams.peers }}
{{- if not $hub }}
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- end }}
- to: {{- toYaml . | nindent 4 }}
  ports:
    {{- range $.Values.networkPolicy.upstreams.ports }}
    - port: {{ int . }}
    {{- end }}
{{- end }}
{{- end }}

{{/* Problems of endpoints that send requests to a server. */}}
{{- define "triton.checkUpstreams" -}}
{{- range .Values.endpoints }}
{{- if eq (dig "engine" "type" "vllm" .spec) "openai" }}
{{- if and (dig "engine" "args" "api_key_name" "" .spec) (not $.Values.upstreams.apiKeysSecret) }}
- endpoints: {{ .name }} has engine.args.api_key_name, but upstreams.apiKeysSecret is empty: set the name of the Secret that has the key.
{{- end }}
{{- if and $.Values.networkPolicy.enabled (not $.Values.networkPolicy.upstreams.peers) }}
- endpoints: {{ .name }} sends requests to {{ dig "engine" "args" "url" "an upstream" .spec }}, which the NetworkPolicy does not permit: set networkPolicy.upstreams.peers.
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "triton.checkNetwork" -}}
{{- $policy := .Values.networkPolicy }}
{{- if not .Values.gateway.enabled }}
{{- range list "ingress" "httpRoute" }}
{{- if index $.Values . "enabled" }}
- {{ . }}.enabled is true, but gateway.enabled is false, and Triton's own ports must not be reachable from outside, as they ask for no API key: enable the gateway, or set {{ . }}.enabled: false.
{{- end }}
{{- end }}
{{- if and $policy.enabled (ne .Values.service.type "ClusterIP") (not $policy.clients) }}
- service.type is {{ .Values.service.type }}, but the NetworkPolicy only lets pods of the namespace reach Triton's ports: set networkPolicy.clients.
{{- end }}
{{- end }}
{{- $sync := .Values.weights.sync }}
{{- if and $policy.enabled .Values.weights.enabled $sync.enabled $sync.endpointUrl }}
{{- $url := urlParse $sync.endpointUrl }}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "80" "443" (eq $url.scheme "http")) | int }}
{{- $ports := list }}
{{- range $policy.hub.ports }}
{{- $ports = append $ports (int .) }}
{{- end }}
{{- if not (has $port $ports) }}
- weights.sync.endpointUrl is {{ $sync.endpointUrl }}, but networkPolicy.hub.ports does not contain {{ $port }}, so that downloads would wait in vain: add it.
{{- end }}
{{- if and (not $policy.hub.peers) (regexMatch "^[^.]+$|[.](svc|local|internal)$" (regexReplaceAll ":[0-9]+$" $url.host "")) }}
- weights.sync.endpointUrl is {{ $sync.endpointUrl }}, in the cluster or a private network, which networkPolicy.hub.peers does not permit: set the peers of the mirror.
{{- end }}
{{- end }}
{{- end }}
