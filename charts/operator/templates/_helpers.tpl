{{- define "operator.name" -}}
{{- default "lagscaler" .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "operator.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "operator.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* The first part of the names of what belongs to no namespace: two releases of one name must not share it. */ -}}
{{- define "operator.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "operator.fullname" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "operator.selectorLabels" . }}
app.kubernetes.io/version: {{ default .Chart.AppVersion .Values.image.tag | trunc 63 | quote }}
app.kubernetes.io/part-of: taskbridge
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Labels of the pod: without the chart's version, which would restart it when only the chart changes. */ -}}
{{- define "operator.podLabels" -}}
{{ include "operator.selectorLabels" . }}
app.kubernetes.io/part-of: taskbridge
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "operator.image" -}}
{{- with .Values.image.registry }}{{ . }}/{{ end -}}
{{ .Values.image.repository }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end -}}
{{- end -}}

{{- /* The namespaces that are served, as a JSON list; empty when all are. */ -}}
{{- define "operator.namespaces" -}}
{{- if .Values.watch.clusterWide -}}
[]
{{- else -}}
{{- default (list .Release.Namespace) .Values.watch.namespaces | uniq | sortAlpha | toJson -}}
{{- end -}}
{{- end -}}

{{- /* The namespaces whose resources may name a cluster or a bridge, as a JSON list; takes `root` and `given`. */ -}}
{{- define "operator.admitted" -}}
{{- default (list .root.Release.Namespace) .given.namespaces | uniq | sortAlpha | toJson -}}
{{- end -}}

{{- /* A cluster of the values with its defaults, as JSON. */ -}}
{{- define "operator.cluster" -}}
{{- $cluster := merge (deepCopy .) (dict "securityProtocol" "SASL_SSL" "saslMechanism" "SCRAM-SHA-512" "username" "" "existingSecret" "" "key" "password") -}}
{{- $_ := set $cluster "ca" (merge (deepCopy (default dict .ca)) (dict "existingSecret" "" "key" "ca.crt")) -}}
{{- $_ := set $cluster "certificate" (merge (deepCopy (default dict .certificate)) (dict "existingSecret" "" "certificateKey" "user.crt" "privateKey" "user.key")) -}}
{{- $_ := set $cluster "sasl" (hasPrefix "SASL" $cluster.securityProtocol) -}}
{{- $cluster | toJson -}}
{{- end -}}

{{- /* A bridge of the values with its defaults, as JSON. */ -}}
{{- define "operator.bridge" -}}
{{- $bridge := merge (deepCopy .) (dict "existingSecret" "" "key" "token" "pollSeconds" 5) -}}
{{- $_ := set $bridge "ca" (merge (deepCopy (default dict .ca)) (dict "existingSecret" "" "key" "ca.crt")) -}}
{{- $bridge | toJson -}}
{{- end -}}

{{- /* Where in the pod the configuration and the Secrets are. */ -}}
{{- define "operator.folder" -}}
/etc/lagscaler
{{- end -}}
