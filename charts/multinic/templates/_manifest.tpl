{{/*
The objects of a manifest of deploy/ in which nothing is a matter of values but the namespace: (list ROOT PATH). `make generate`
copies them to manifests/.
*/}}
{{- define "multinic.manifest" -}}
{{- $root := index . 0 -}}
{{- $text := $root.Files.Get (printf "manifests/%s" (index . 1)) | replace "multinic-system" $root.Release.Namespace -}}
{{- range splitList "\n---\n" $text }}
{{- $object := fromYaml . }}
{{- $_ := set $object.metadata "labels" (merge $object.metadata.labels (include "multinic.releaseLabels" $root | fromYaml)) }}
---
{{ toYaml $object }}
{{- end }}
{{- end -}}
