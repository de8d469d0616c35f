{{/* What Helm's users expect of every object. */}}
{{- define "multinic.releaseLabels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Labels of an object: (list ROOT NAME); NAME may be empty for what belongs to no part. */}}
{{- define "multinic.labels" -}}
{{- with index . 1 -}}
app.kubernetes.io/name: {{ . }}
{{ end -}}
app.kubernetes.io/part-of: multinic
{{ include "multinic.releaseLabels" (index . 0) }}
{{- end -}}

{{/* Labels of a pod. Those of the release are not among them: another chart version is no reason to replace pods. */}}
{{- define "multinic.podLabels" -}}
app.kubernetes.io/name: {{ . }}
app.kubernetes.io/part-of: multinic
{{- end -}}
