{{/* Whether Helm itself has the controller: yes or nothing. With the operator, that makes it. */}}
{{- define "multinic.ownController" -}}
{{- if and .Values.controller.enabled (not .Values.operator.enabled) }}yes{{ end -}}
{{- end -}}

{{/* The MultiNicOperator's spec, as JSON: what the chart's other values say, and over it operator.spec. */}}
{{- define "multinic.operatorSpec" -}}
{{- $settings := dict }}
{{- range $name, $value := include "multinic.controllerConfig" . | fromYaml }}
{{- if ne $value "" }}{{ $_ := set $settings $name $value }}{{ end }}
{{- end }}
{{- $controller := dict "image" (include "multinic.image" .) "replicas" (int .Values.controller.replicas) "settings" $settings }}
{{- $spec := dict "controller" $controller "database" (dict "enabled" false) }}
{{- mergeOverwrite $spec (deepCopy .Values.operator.spec) | toJson }}
{{- end -}}
