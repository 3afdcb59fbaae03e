{{- /*
Rights, as lists of rules of a KafkaUser. Every name is literal. Read, Write and Create include Describe; DescribeConfigs lets
`taskbridge check` compare retention and sizes.
*/ -}}

{{- /* One rule; takes (list "topic" "name" (list "Read")). */ -}}
{{- define "kafka.acl" -}}
- resource: {type: {{ index . 0 }}, name: {{ index . 1 | quote }}, patternType: literal}
  operations: {{ index . 2 | toJson }}
{{ end -}}

{{- /* To dispatch tasks of every service, copies included, and to say what was dispatched. */ -}}
{{- define "kafka.acls.dispatch" -}}
{{- $prefix := .Values.topics.prefix -}}
{{- range .Values.topics.services -}}
{{- $topic := printf "%s.%s" $prefix .name -}}
{{- include "kafka.acl" (list "topic" $topic (list "Write" "DescribeConfigs")) -}}
{{- include "kafka.acl" (list "topic" (printf "%s.shadow" $topic) (list "Write" "DescribeConfigs")) -}}
{{- end -}}
{{- include "kafka.acl" (list "topic" (printf "%s.observations" $prefix) (list "Write" "DescribeConfigs")) -}}
{{- end -}}

{{- /* To see how far the workers are: held messages are let go when nothing is left before them. */ -}}
{{- define "kafka.acls.relay" -}}
{{- range .Values.topics.services -}}
{{- include "kafka.acl" (list "group" (printf "%s.%s" $.Values.topics.prefix .name) (list "Describe")) -}}
{{- end -}}
{{- end -}}

{{- /* To see how far the workers are, for the operator: partitions, ends and offsets, and no record. */ -}}
{{- define "kafka.acls.lagscaler" -}}
{{- range .Values.topics.services -}}
{{- $topic := printf "%s.%s" $.Values.topics.prefix .name -}}
{{- range $name := list $topic (printf "%s.shadow" $topic) -}}
{{- include "kafka.acl" (list "topic" $name (list "Describe")) -}}
{{- include "kafka.acl" (list "group" $name (list "Describe")) -}}
{{- end -}}
{{- end -}}
{{- range $kind, $names := dict "group" .Values.users.lagscaler.groups "topic" .Values.users.lagscaler.topics -}}
{{- range $names -}}
{{- include "kafka.acl" (list $kind . (list "Describe")) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* To run one service's records; takes (dict "context" $ "service" "orders"). */ -}}
{{- define "kafka.acls.worker" -}}
{{- $topic := printf "%s.%s" .context.Values.topics.prefix .service -}}
{{- include "kafka.acl" (list "topic" $topic (list "Read")) -}}
{{- include "kafka.acl" (list "topic" (printf "%s.dlq" $topic) (list "Write" "DescribeConfigs")) -}}
{{- include "kafka.acl" (list "group" $topic (list "Read")) -}}
{{- end -}}

{{- /* To look at one service's copies. */ -}}
{{- define "kafka.acls.shadow" -}}
{{- $prefix := .context.Values.topics.prefix -}}
{{- $topic := printf "%s.%s" $prefix .service -}}
{{- include "kafka.acl" (list "topic" (printf "%s.shadow" $topic) (list "Read" "Write" "DescribeConfigs")) -}}
{{- include "kafka.acl" (list "topic" (printf "%s.dlq" $topic) (list "Write" "DescribeConfigs")) -}}
{{- include "kafka.acl" (list "topic" (printf "%s.observations" $prefix) (list "Write" "DescribeConfigs")) -}}
{{- include "kafka.acl" (list "group" (printf "%s.shadow" $topic) (list "Read")) -}}
{{- end -}}

{{- /* To move a service: first offsets for its groups, its workers' partitions, and the evidence. */ -}}
{{- define "kafka.acls.move" -}}
{{- $prefix := .Values.topics.prefix -}}
{{- range .Values.topics.services -}}
{{- $topic := printf "%s.%s" $prefix .name -}}
{{- range $name := list $topic (printf "%s.shadow" $topic) -}}
{{- include "kafka.acl" (list "topic" $name (list "Read")) -}}
{{- include "kafka.acl" (list "group" $name (list "Read")) -}}
{{- end -}}
{{- include "kafka.acl" (list "topic" (printf "%s.dlq" $topic) (list "Describe" "DescribeConfigs")) -}}
{{- end -}}
{{- include "kafka.acl" (list "topic" (printf "%s.observations" $prefix) (list "Read")) -}}
{{- include "kafka.acl" (list "group" (printf "%s.report" $prefix) (list "Describe")) -}}
{{- end -}}

{{- /* What the commands need beyond moving: to create the topics, to dead-letter while draining, to see the brokers' settings. */ -}}
{{- define "kafka.acls.command" -}}
{{- $prefix := .Values.topics.prefix -}}
{{- range .Values.topics.services -}}
{{- $topic := printf "%s.%s" $prefix .name -}}
{{- include "kafka.acl" (list "topic" $topic (list "Create")) -}}
{{- include "kafka.acl" (list "topic" (printf "%s.shadow" $topic) (list "Create")) -}}
{{- include "kafka.acl" (list "topic" (printf "%s.dlq" $topic) (list "Create" "Read" "Write")) -}}
{{- end -}}
{{- include "kafka.acl" (list "topic" (printf "%s.observations" $prefix) (list "Create")) }}
- resource: {type: cluster}
  operations: [DescribeConfigs]
{{ end -}}

{{- /* For Connect's own topics and group, and to publish the outbox. */ -}}
{{- define "kafka.acls.connect" -}}
{{- $prefix := .Values.topics.prefix -}}
{{- range $part := list "configs" "offsets" "status" -}}
{{- include "kafka.acl" (list "topic" (printf "%s.connect.%s" $prefix $part) (list "Read" "Write" "DescribeConfigs")) -}}
{{- end -}}
{{- include "kafka.acl" (list "group" (printf "%s.connect" $prefix) (list "Read")) -}}
{{- if .Values.connect.outbox.enabled -}}
{{- range .Values.topics.services -}}
{{- include "kafka.acl" (list "topic" (printf "%s.%s" $prefix .name) (list "Write")) -}}
{{- end -}}
{{- include "kafka.acl" (list "topic" (printf "%s.connect.heartbeat.%s" $prefix .Values.connect.outbox.name) (list "Write")) -}}
{{- end -}}
{{- end -}}
