{{/* A container of the Job: (list ROOT SUBCOMMAND ARGUMENTS). */}}
{{- define "multinic.uninstallStep" -}}
{{- $root := index . 0 -}}
- name: {{ index . 1 }}
  image: {{ include "multinic.image" $root }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  args:
    - {{ index . 1 }}
    - --yes
    - --timeout={{ $root.Values.uninstall.timeout }}
    {{- range index . 2 }}
    - {{ . }}
    {{- end }}
  env:
    - name: POD_NAMESPACE
      valueFrom:
        fieldRef:
          fieldPath: metadata.namespace
  resources:
    requests:
      cpu: 10m
      memory: 16Mi
    limits:
      memory: 128Mi
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: [ALL]
{{- end -}}

{{/* The container that takes the NICs off the nodes. */}}
{{- define "multinic.cleanNodes" -}}
{{- $arguments := list -}}
{{- if include "multinic.agentsReadDatabase" . -}}
{{- $arguments = append $arguments (printf "--ask-agents=%d" (ternary (int .Values.agent.metricsPort) 18080 .Values.agent.enabled)) -}}
{{- end -}}
{{- include "multinic.uninstallStep" (list . "clean-nodes" $arguments) -}}
{{- end -}}
