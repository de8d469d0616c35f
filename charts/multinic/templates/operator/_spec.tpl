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
{{- $database := dict "enabled" false }}
{{- if .Values.database.host }}
{{- with include "multinic.sinks" . }}{{ $_ := set $settings "SINKS" . }}{{ end }}
{{- $_ := set $database "external" (include "multinic.externalDatabase" . | fromJson) }}
{{- end }}
{{- $spec := dict "controller" $controller "database" $database }}
{{- mergeOverwrite $spec (deepCopy .Values.operator.spec) | toJson }}
{{- end -}}

{{/* Where the database of the operator's controller is, as JSON. */}}
{{- define "multinic.externalDatabase" -}}
{{- $database := .Values.database -}}
{{- $login := include "multinic.login" (list . "controller") | fromJson -}}
{{- $tls := $database.tls.mode | default (ternary "verify" "disabled" (ne $database.tls.caSecret "")) -}}
{{- $external := dict "host" $database.host "port" (int $database.port) "database" $database.name "tls" $tls "secretName" $login.secret }}
{{- if $database.tls.caSecret }}{{ $_ := set $external "caKey" $database.tls.caKey }}{{ end }}
{{- $external | toJson }}
{{- end -}}
