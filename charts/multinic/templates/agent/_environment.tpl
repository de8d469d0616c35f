{{/* A number as it is written; Helm would write a million as 1e+06. */}}
{{- define "multinic.whole" -}}
{{- if not (kindIs "invalid" .) }}{{ int64 . }}{{ end -}}
{{- end -}}

{{/* The agent's variables that values name; what is not set is left to the agent's defaults. */}}
{{- define "multinic.agentEnv" -}}
{{- $agent := .Values.agent -}}
{{- $named := dict
      "POLL_INTERVAL" $agent.pollInterval
      "LOG_LEVEL" $agent.logLevel
      "INSTALL_DROPIN" (ternary true "" $agent.installDropIn)
      "BACKOFF_ENABLED" $agent.backoff.enabled
      "BACKOFF_MAX_INTERVAL" $agent.backoff.maxInterval
      "BACKOFF_MULTIPLIER" $agent.backoff.multiplier
      "NETWORK_POLICY_ROUTING_ENABLED" $agent.network.policyRoutingEnabled
      "NETWORK_ROUTING_TABLE_BASE" (include "multinic.whole" $agent.network.routingTableBase)
      "NETWORK_ROUTE_METRIC" (include "multinic.whole" $agent.network.routeMetric)
      "NETWORK_NOPREFIXROUTE" $agent.network.useNoPrefixRoute
      "NETWORK_SET_ARP_SYSCTLS" $agent.network.setArpSysctls
      "NETWORK_SET_RP_FILTER_LOOSE" $agent.network.setLooseRpFilter -}}
{{- range $name, $value := merge (deepCopy $agent.config) $named }}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}
- name: {{ $name }}
  value: {{ toString $value | quote }}
{{- end }}
{{- end }}
{{- end -}}
