{{/* The data of operator-config. */}}
{{- define "multinic.controllerConfig" -}}
{{- range $name, $value := .Values.operatorConfig }}
{{ $name }}: {{ toString $value | quote }}
{{- end }}
INVENTORY_ENABLED: {{ .Values.inventory.enabled | quote }}
INVENTORY_ADDR: ":18081"
INVENTORY_DB_PATH: {{ .Values.inventory.dbPath | quote }}
{{- with include "multinic.sinks" . }}
SINKS: {{ . }}
{{- end }}
{{- end -}}
