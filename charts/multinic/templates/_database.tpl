{{/* What agents read: db or nodecr. */}}
{{- define "multinic.dataSource" -}}
{{- if ne .Values.agent.dataSource "auto" -}}
{{ .Values.agent.dataSource }}
{{- else -}}
{{ ternary "db" "nodecr" (ne .Values.database.host "") }}
{{- end -}}
{{- end -}}

{{/* Whether agents, Helm's own or the operator's, read the database: yes or nothing. */}}
{{- define "multinic.agentsReadDatabase" -}}
{{- if or (and .Values.agent.enabled (eq (include "multinic.dataSource" .) "db")) (and .Values.operator.enabled (eq (dig "agent" "dataSource" "" .Values.operator.spec) "db")) -}}
yes
{{- end -}}
{{- end -}}

{{/* SINKS of the controller; empty for its own choice. */}}
{{- define "multinic.sinks" -}}
{{- if .Values.controller.sinks -}}
{{ join "," .Values.controller.sinks }}
{{- else if and .Values.agent.enabled (eq (include "multinic.dataSource" .) "db") -}}
database
{{- end -}}
{{- end -}}

{{/* Whether the agents log in as a user of their own. */}}
{{- define "multinic.agentHasUser" -}}
{{- with .Values.database.agent }}{{ if .user }}yes{{ end }}{{ end -}}
{{- end -}}

{{/* Whose login counts: (list ROOT PART), PART is controller or agent. As JSON: user, secret, key. */}}
{{- define "multinic.login" -}}
{{- $database := (index . 0).Values.database -}}
{{- $login := $database -}}
{{- /* multinic-database is the operator's, for the database that it runs. */ -}}
{{- $own := "multinic-external-database" -}}
{{- if and (eq (index . 1) "agent") (include "multinic.agentHasUser" (index . 0)) -}}
{{- $login = $database.agent -}}
{{- $own = "multinic-agent-database" -}}
{{- end -}}
{{- if $login.existingSecret -}}
{{ dict "user" $login.user "secret" $login.existingSecret "key" $login.passwordKey | toJson }}
{{- else -}}
{{ dict "user" $login.user "secret" $own "key" "password" | toJson }}
{{- end -}}
{{- end -}}

{{/* Variables that lead to the database: (list ROOT PART). */}}
{{- define "multinic.databaseEnv" -}}
{{- $database := (index . 0).Values.database -}}
- name: DB_HOST
  value: {{ $database.host | quote }}
- name: DB_PORT
  value: {{ $database.port | toString | quote }}
- name: DB_NAME
  value: {{ $database.name | quote }}
- name: DB_USER
  value: {{ (include "multinic.login" . | fromJson).user | quote }}
- name: DB_PASSWORD_FILE
  value: /etc/multinic/database/password
{{- with $database.tls.mode }}
- name: DB_TLS
  value: {{ . }}
{{- end }}
{{- if $database.tls.caSecret }}
- name: DB_TLS_CA
  value: /etc/multinic/database/ca.crt
{{- end }}
{{- end -}}

{{- define "multinic.databaseMount" -}}
- name: database
  mountPath: /etc/multinic/database
  readOnly: true
{{- end -}}

{{/* Password and authority as files: (list ROOT PART). */}}
{{- define "multinic.databaseVolume" -}}
{{- $login := include "multinic.login" . | fromJson -}}
{{- $tls := (index . 0).Values.database.tls -}}
- name: database
  projected:
    # 0440.
    defaultMode: 288
    sources:
      - secret:
          name: {{ $login.secret }}
          items:
            - key: {{ $login.key }}
              path: password
      {{- with $tls.caSecret }}
      - secret:
          name: {{ . }}
          items:
            - key: {{ $tls.caKey }}
              path: ca.crt
      {{- end }}
{{- end -}}
