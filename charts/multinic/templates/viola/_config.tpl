{{/* The data of viola-config. */}}
{{- define "multinic.violaConfig" -}}
LISTEN_ADDR: ":8080"
{{- range $name, $value := .Values.viola.config }}
{{- if and (eq $name "TARGET_NAMESPACE") (eq (toString $value) "") }}
{{- $value = $.Release.Namespace }}
{{- end }}
{{ $name }}: {{ toString $value | quote }}
{{- end }}
{{- end -}}
