{{/* An image: (list ROOT REPOSITORY DIGEST). */}}
{{- define "multinic.imageOf" -}}
{{- $image := (index . 0).Values.image -}}
{{- $name := index . 1 -}}
{{- with $image.registry }}{{ $name = printf "%s/%s" (trimSuffix "/" .) $name }}{{ end -}}
{{- with index . 2 -}}
{{ $name }}@{{ . }}
{{- else -}}
{{ $name }}:{{ $image.tag | default (index . 0).Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "multinic.image" -}}
{{ include "multinic.imageOf" (list . .Values.image.repository .Values.image.digest) }}
{{- end -}}

{{- define "multinic.agentImage" -}}
{{ include "multinic.imageOf" (list . .Values.image.agentRepository .Values.image.agentDigest) }}
{{- end -}}

{{- define "multinic.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}
