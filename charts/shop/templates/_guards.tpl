{{- /* What the schema cannot see: values that only together make no sense, each with what to do. */ -}}
{{- define "shop.guard" -}}
{{- $values := .Values -}}
{{- if not (or $values.app.existingSecret $values.app.generateSecret) -}}
{{- fail (printf "app.existingSecret is not set: make a Secret with the keys secret-key and api-tokens in namespace %s and name it there (for trying out: app.generateSecret=true)" .Release.Namespace) -}}
{{- end -}}
{{- if and $values.app.existingSecret $values.app.generateSecret -}}
{{- fail "app.existingSecret and app.generateSecret are both set: unset the one that is not meant" -}}
{{- end -}}
{{- if not (or $values.email.url $values.email.existingSecret) -}}
{{- fail "email.url is not set: give smtp://host:25 (memory: for trying out), or name a Secret in email.existingSecret" -}}
{{- end -}}
{{- if and $values.email.url $values.email.existingSecret -}}
{{- fail "email.url and email.existingSecret are both set: unset the one that is not meant" -}}
{{- end -}}
{{- if eq (not $values.database.existingSecret) (not $values.postgresql.enabled) -}}
{{- fail (ternary "database.existingSecret is not set: name a Secret whose key url is postgresql://user:password@host:5432/name (for trying out: postgresql.enabled=true)" "database.existingSecret and postgresql.enabled are both set: unset the one that is not meant" (not $values.postgresql.enabled)) -}}
{{- end -}}
{{- if eq (not $values.broker.existingSecret) (not $values.redis.enabled) -}}
{{- fail (ternary "broker.existingSecret is not set: name a Secret whose key url is redis://:password@host:6379 (for trying out: redis.enabled=true)" "broker.existingSecret and redis.enabled are both set: unset the one that is not meant" (not $values.redis.enabled)) -}}
{{- end -}}
{{- if and $values.kafka.enabled (not $values.kafka.bootstrapServers) -}}
{{- fail "kafka.bootstrapServers is not set: give host:port,host:port as the notes of charts/kafka say it, or set kafka.enabled=false to begin with Celery alone" -}}
{{- end -}}
{{- range $name, $_ := $values.app.env -}}
{{- if regexMatch "(PASSWORD|SECRET|SECRET_KEY|TOKEN|TOKENS)$|^(DATABASE|REDIS|EMAIL)_URL$|^KAFKA_" $name -}}
{{- fail (printf "app.env.%s: a ConfigMap is no place for it; secrets come by app, email, database, broker and kafka, each with an existingSecret" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := $values.kafka.users -}}
{{- if not (regexMatch "^(web|celery|relay|cli|(worker|shadow)-.+)$" $name) -}}
{{- fail (printf "kafka.users.%s is nobody's: roles are web, celery, relay, cli, worker-SERVICE and shadow-SERVICE" $name) -}}
{{- end -}}
{{- end -}}
{{- if not (include "shop.services" . | fromJsonArray) -}}
{{- fail "services: none is enabled, so nothing would work on any task; enable one" -}}
{{- end -}}
{{- if and $values.web.ingress.enabled (not $values.web.ingress.hosts) -}}
{{- fail "web.ingress.hosts is empty: name the hosts under which the shop is reached, because Django answers to no other" -}}
{{- end -}}
{{- if $values.operator.enabled -}}
{{- if not (.Capabilities.APIVersions.Has "taskbridge.dev/v1alpha1/KafkaConsumer") -}}
{{- fail "operator.enabled is set, and this cluster does not know KafkaConsumers (taskbridge.dev/v1alpha1): install charts/operator first, or set operator.enabled=false" -}}
{{- end -}}
{{- if and (eq (include "shop.drivenByOperator" .) "true") (not $values.web.bridgeTokensSecret) -}}
{{- fail "operator.bridge is set, and web.bridgeTokensSecret is not, so the operator would have nobody to ask: name the Secret with a token for each client, or set operator.bridge to nothing" -}}
{{- end -}}
{{- end -}}
{{- range include "shop.workers" (dict "context" $ "roles" (list "shadow")) | fromJsonArray -}}
{{- if and .values.databaseSecret $values.postgresql.enabled -}}
{{- fail (printf "services.%s: shadowWorker.databaseSecret and postgresql.enabled are both set, and its pods would reach the release's own PostgreSQL only: unset the first, or name the other databases by database.existingSecret and set postgresql.enabled=false" .service) -}}
{{- end -}}
{{- end -}}
{{- range include "shop.workers" (dict "context" $ "roles" (list "worker")) | fromJsonArray -}}
{{- if and .values.hpa.enabled .values.autoscaling.enabled -}}
{{- fail (printf "services.%s: kafkaWorker.hpa and kafkaWorker.autoscaling are both enabled; two that scale one Deployment undo each other, so disable one" .service) -}}
{{- end -}}
{{- end -}}
{{- end -}}
