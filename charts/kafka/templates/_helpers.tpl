{{- define "kafka.name" -}}
{{- default .Release.Name .Values.clusterName | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "kafka.selectorLabels" -}}
app.kubernetes.io/name: kafka
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* Labels of a resource; takes (dict "context" $ "component" "brokers"). */ -}}
{{- define "kafka.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .context.Chart.Name .context.Chart.Version | replace "+" "_" }}
{{ include "kafka.selectorLabels" .context }}
app.kubernetes.io/version: {{ .context.Values.kafka.version | quote }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: taskbridge
app.kubernetes.io/managed-by: {{ .context.Release.Service }}
{{- with .context.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Checked here, not with the other guards, because templates that need it are rendered before those are asked. */ -}}
{{- define "kafka.profile" -}}
{{- if not (hasKey .Values.profiles .Values.profile) -}}
{{- fail (printf "profile is %q, and profiles knows only %s." .Values.profile (keys .Values.profiles | sortAlpha | join ", ")) -}}
{{- end -}}
{{- index .Values.profiles .Values.profile | toYaml -}}
{{- end -}}

{{- /* Where the application and its users are. */ -}}
{{- define "kafka.userNamespace" -}}
{{- default .Release.Namespace .Values.users.namespace -}}
{{- end -}}

{{- define "kafka.bootstrapServers" -}}
{{- if eq .Values.mode "external" -}}
{{- .Values.external.bootstrapServers -}}
{{- else -}}
{{- printf "%s-kafka-bootstrap.%s.svc:%v" (include "kafka.name" .) .Release.Namespace .Values.listener.port -}}
{{- end -}}
{{- end -}}

{{- define "kafka.securityProtocol" -}}
{{- if eq .Values.mode "external" -}}
{{- .Values.external.securityProtocol -}}
{{- else -}}
{{- ternary "SASL_SSL" "SASL_PLAINTEXT" .Values.listener.tls -}}
{{- end -}}
{{- end -}}

{{- define "kafka.caSecret" -}}
{{- if .Values.clientTls.caSecret -}}
{{- .Values.clientTls.caSecret -}}
{{- else if and (eq .Values.mode "strimzi") (eq (include "kafka.userNamespace" .) .Release.Namespace) -}}
{{- printf "%s-cluster-ca-cert" (include "kafka.name" .) -}}
{{- else -}}
{{- printf "%s-kafka-ca" .Values.topics.prefix | replace "_" "-" -}}
{{- end -}}
{{- end -}}

{{- /* A user's name, which is also that of its KafkaUser and its Secret; takes (dict "context" $ "role" "web"). */ -}}
{{- define "kafka.userName" -}}
{{- printf "%s-%s" .context.Values.topics.prefix .role | replace "_" "-" -}}
{{- end -}}

{{- /* The name of a topic's resource, by the rule of `taskbridge topics --format strimzi`: what Kubernetes refuses is replaced, and the name then told apart by a digest. */ -}}
{{- define "kafka.topicResource" -}}
{{- $name := regexReplaceAll "[^a-z0-9.-]" (lower .) "-" -}}
{{- $name = regexReplaceAll "(^|\\.)[-.]+" $name "${1}" -}}
{{- $name = regexReplaceAll "[-.]+(\\.|$)" $name "${1}" -}}
{{- if eq $name . -}}
{{- $name -}}
{{- else -}}
{{- printf "%s-%s" $name (sha256sum . | trunc 8) | trimPrefix "-" -}}
{{- end -}}
{{- end -}}

{{- /* The longest retention of any topic, in milliseconds: what the observations are kept for, too. */ -}}
{{- define "kafka.longestRetention" -}}
{{- $longest := 0 -}}
{{- range .Values.topics.services -}}
{{- $longest = max $longest (int64 (default $.Values.topics.retentionMs .retentionMs)) -}}
{{- end -}}
{{- $longest -}}
{{- end -}}

{{- /* Replicas of Kafka's and Connect's own topics; -1, the brokers' default, where the brokers are not ours. */ -}}
{{- define "kafka.replicationFactor" -}}
{{- if eq .Values.mode "external" -}}
-1
{{- else -}}
{{- (include "kafka.profile" . | fromYaml).replicationFactor -}}
{{- end -}}
{{- end -}}

{{- /* What Connect needs and, not being an administrator, does not create: its own topics, as a JSON list. */ -}}
{{- define "kafka.connectTopics" -}}
{{- $prefix := printf "%s.connect" .Values.topics.prefix -}}
{{- $compact := dict "cleanup.policy" "compact" -}}
{{- $topics := list (dict "name" (printf "%s.configs" $prefix) "partitions" 1 "config" $compact) (dict "name" (printf "%s.offsets" $prefix) "partitions" 5 "config" $compact) (dict "name" (printf "%s.status" $prefix) "partitions" 5 "config" $compact) -}}
{{- if .Values.connect.outbox.enabled -}}
{{- $topics = append $topics (dict "name" (printf "%s.heartbeat.%s" $prefix .Values.connect.outbox.name) "partitions" 1 "config" (dict "cleanup.policy" "delete" "retention.ms" "3600000")) -}}
{{- end -}}
{{- $topics | toJson -}}
{{- end -}}

{{- /* The brokers' ports, as a JSON list. */ -}}
{{- define "kafka.ports" -}}
{{- $ports := list -}}
{{- range splitList "," (include "kafka.bootstrapServers" .) -}}
{{- $ports = append $ports (regexFind "[0-9]+$" (trim .) | int) -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{- /* Labels of Connect's pods, by Strimzi's rule. */ -}}
{{- define "kafka.connectPods" -}}
{{- $connect := include "kafka.userName" (dict "context" . "role" "connect") -}}
strimzi.io/cluster: {{ $connect }}
strimzi.io/name: {{ $connect }}-connect
{{- end -}}
