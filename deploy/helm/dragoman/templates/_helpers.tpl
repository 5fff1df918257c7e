{{- define "dragoman.name" -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trimPrefix (printf "%s-" .Chart.Name) | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "dragoman.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "dragoman.labels" -}}
{{ include "dragoman.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- /* Before anything is installed: what the server itself would refuse to start with. */ -}}
{{- define "dragoman.check" -}}
{{- if not .Values.insecure -}}
{{- if not .Values.tls.secretName -}}
{{- fail "tls.secretName is empty: pods are reached by others, so the server needs TLS, or insecure=true" -}}
{{- end -}}
{{- if not .Values.tokens.secretName -}}
{{- fail "tokens.secretName is empty: the server needs a way to know who calls, or insecure=true" -}}
{{- end -}}
{{- end -}}
{{- end -}}
