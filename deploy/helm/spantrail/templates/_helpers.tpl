{{- define "spantrail.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "spantrail.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "spantrail.labels" -}}
{{ include "spantrail.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Mistakes that Spantrail would only tell of when it starts, or never. */}}
{{- define "spantrail.check" -}}
{{- if and (gt (int .Values.replicas) 1) (ne .Values.store.type "elasticsearch") }}
{{- fail "replicas: with store.type duckdb each replica would have a part of the records, and a search would find that part only; use one replica, or store.type elasticsearch" }}
{{- end }}
{{- if and (eq .Values.store.type "elasticsearch") (not .Values.store.elasticsearch.urls) }}
{{- fail "store.elasticsearch.urls: store.type elasticsearch needs the address of a node, such as https://elasticsearch-es-http:9200" }}
{{- end }}
{{- if and (not .Values.insecure) (or (not .Values.tls.secretName) (not .Values.auth.secretName)) }}
{{- fail "tls.secretName and auth.secretName: others reach Spantrail in a cluster, so it needs TLS and tokens; docs/install.md says how to make them. Set insecure: true where something else protects it" }}
{{- end }}
{{- if and .Values.forward.endpoint (not .Values.forward.secretName) }}
{{- fail "forward.secretName: forwarded events are signed, so forward.endpoint needs a Secret with the key `secret`, the same for all replicas" }}
{{- end }}
{{- if and (ne .Values.tls.clientCertificate "none") (not .Values.tls.secretName) }}
{{- fail "tls.clientCertificate: needs tls.secretName, with ca.crt in it" }}
{{- end }}
{{- end }}

{{/* What the chart sets itself; the user's own settings are laid over it. */}}
{{- define "spantrail.settings" -}}
dataDir: /var/lib/spantrail/data
insecure: {{ .Values.insecure }}
{{- if .Values.auth.secretName }}
auth:
  tokensFile: /etc/spantrail/tokens/tokens.yaml
{{- end }}
receive:
  grpc:
    host: 0.0.0.0
    {{- include "spantrail.tls" . | nindent 4 }}
  http:
    host: 0.0.0.0
    {{- include "spantrail.tls" . | nindent 4 }}
api:
  host: 0.0.0.0
  {{- if .Values.tls.secretName }}
  # No certificate is asked for here: probes of the cluster have none.
  tls:
    certFile: /etc/spantrail/tls/tls.crt
    keyFile: /etc/spantrail/tls/tls.key
  {{- end }}
{{- with .Values.forward.endpoint }}
forward:
  endpoint: {{ . }}
{{- end }}
store:
  type: {{ .Values.store.type }}
  {{- with .Values.store.elasticsearch }}
  {{- if eq $.Values.store.type "elasticsearch" }}
  setUp: {{ .setUp }}
  elasticsearch:
    urls: {{ .urls | toJson }}
    {{- if gt (int $.Values.replicas) 1 }}
    replicas: 1
    {{- end }}
    {{- if .caSecret }}
    caFile: /etc/spantrail/elasticsearch/ca.crt
    {{- end }}
  {{- end }}
  {{- end }}
{{- end }}

{{- define "spantrail.tls" -}}
{{- if .Values.tls.secretName -}}
tls:
  certFile: /etc/spantrail/tls/tls.crt
  keyFile: /etc/spantrail/tls/tls.key
  {{- if ne .Values.tls.clientCertificate "none" }}
  clientCaFile: /etc/spantrail/tls/ca.crt
  clientCertificate: {{ .Values.tls.clientCertificate }}
  {{- end }}
{{- end }}
{{- end }}
