{{/* Labels of an object: (list ROOT NAME); NAME may be empty for what belongs to no part. */}}
{{- define "multinic.labels" -}}
{{- $root := index . 0 -}}
{{- with index . 1 -}}
app.kubernetes.io/name: {{ . }}
{{ end -}}
app.kubernetes.io/part-of: multinic
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Labels of a pod. Those of the release are not among them: another chart version is no reason to replace pods. */}}
{{- define "multinic.podLabels" -}}
app.kubernetes.io/name: {{ . }}
app.kubernetes.io/part-of: multinic
{{- end -}}
