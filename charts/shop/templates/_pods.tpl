{{- /*
What every pod of a workload has in common, from its spec's first line; takes (dict "context" $ "component" "web" "role" "web"
"grace" 60).
*/ -}}
{{- define "shop.podSpec" -}}
{{- $values := .context.Values -}}
serviceAccountName: {{ include "shop.fullname" .context }}-{{ .role }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- toYaml $values.podSecurityContext | nindent 2 }}
terminationGracePeriodSeconds: {{ .grace }}
{{- with .nodeSelector | default $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- /* Takes the same as shop.podSpec; only what has several pods is spread. */ -}}
{{- define "shop.spread" -}}
{{- with .context.Values.topologySpread.keys -}}
topologySpreadConstraints:
  {{- range . }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: {{ $.context.Values.topologySpread.whenUnsatisfiable }}
    # Each version of the pods is spread by itself, so that an upgrade does not end up on one side.
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- include "shop.selectorLabels" $ | nindent 8 }}
  {{- end }}
{{- end -}}
{{- end -}}

{{- /* What a pod is restarted for: its settings, and not the chart's version in their labels. */ -}}
{{- define "shop.podAnnotations" -}}
{{- $settings := include (print .context.Template.BasePath "/configmap.yaml") .context -}}
checksum/config: {{ regexReplaceAll "helm\\.sh/chart: .*" $settings "" | sha256sum }}
{{- with .annotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* The head of a container that runs the shop's image; takes (dict "context" $ "resources" …). */ -}}
{{- define "shop.container" -}}
image: {{ include "shop.image" (dict "image" .context.Values.image "tag" .context.Chart.AppVersion) }}
imagePullPolicy: {{ .context.Values.image.pullPolicy }}
workingDir: /app
securityContext:
  {{- toYaml .context.Values.containerSecurityContext | nindent 2 }}
# What a container says last stands in `kubectl describe`.
terminationMessagePolicy: FallbackToLogsOnError
resources:
  {{- toYaml .resources | nindent 2 }}
{{- end -}}

{{- /*
Whose rights a role has in Kafka, as JSON: username, existingSecret, key; takes (dict "context" $ "user" "worker-orders").
*/ -}}
{{- define "shop.kafkaUser" -}}
{{- $kafka := .context.Values.kafka -}}
{{- $own := default dict (get $kafka.users .user) -}}
{{- $name := printf "%s-%s" $kafka.topicPrefix .user | replace "_" "-" -}}
{{- dict "username" (default $name $own.username) "existingSecret" (default $name $own.existingSecret) "key" (default "password" $own.key) | toJson -}}
{{- end -}}

{{- define "shop.saslEnabled" -}}
{{- if and .Values.kafka.enabled (hasPrefix "SASL" .Values.kafka.securityProtocol) }}true{{ end -}}
{{- end -}}

{{- /*
Environment of the shop; takes (dict "context" $ "role" "worker" "user" "worker-orders"). Without `user` there is no Kafka. The
shadow worker gets no secret of the application: it signs nothing, sends nothing, and is in nobody's place.
*/ -}}
{{- define "shop.environment" -}}
{{- $values := .context.Values -}}
envFrom:
  - configMapRef:
      name: {{ include "shop.fullname" .context }}-env
{{- if and .user $values.kafka.enabled }}
  - configMapRef:
      name: {{ include "shop.fullname" .context }}-kafka-env
{{- end }}
env:
{{- if eq .role "shadow" }}
  - name: DJANGO_SECRET_KEY
    valueFrom:
      fieldRef:
        fieldPath: metadata.uid
  - name: EMAIL_URL
    value: "memory:"
{{- else }}
  - name: DJANGO_SECRET_KEY
    valueFrom:
      secretKeyRef:
        name: {{ include "shop.appSecret" .context }}
        key: secret-key
{{- if $values.email.existingSecret }}
  - name: EMAIL_URL
    valueFrom:
      secretKeyRef:
        name: {{ $values.email.existingSecret }}
        key: {{ $values.email.key }}
{{- end }}
{{- end }}
{{- if eq .role "web" }}
  - name: SHOP_API_TOKENS
    valueFrom:
      secretKeyRef:
        name: {{ include "shop.appSecret" .context }}
        key: api-tokens
{{- if $values.web.bridgeTokensSecret }}
  - name: SHOP_BRIDGE_TOKENS
    value: /etc/taskbridge/api-tokens
{{- end }}
{{- end }}
  - name: DATABASE_URL
    valueFrom:
      secretKeyRef:
        name: {{ .databaseSecret | default (include "shop.databaseSecret" .context) }}
        key: {{ ternary "url" $values.database.key $values.postgresql.enabled }}
  - name: REDIS_URL
    valueFrom:
      secretKeyRef:
        name: {{ include "shop.brokerSecret" .context }}
        key: {{ ternary "url" $values.broker.key $values.redis.enabled }}
{{- if and .user (include "shop.saslEnabled" .context) }}
  - name: KAFKA_SASL_USERNAME
    value: {{ (include "shop.kafkaUser" . | fromJson).username | quote }}
  - name: KAFKA_SASL_PASSWORD_FILE
    value: /etc/taskbridge/kafka/password
{{- end }}
{{- end -}}

{{- /* Takes the same as shop.environment. Whole directories: files mounted by subPath are not renewed. */ -}}
{{- define "shop.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- if and .user (include "shop.saslEnabled" .context) }}
- name: kafka-password
  mountPath: /etc/taskbridge/kafka
  readOnly: true
{{- end }}
{{- if and .user .context.Values.kafka.enabled .context.Values.kafka.ca.existingSecret }}
- name: kafka-ca
  mountPath: /etc/taskbridge/ca
  readOnly: true
{{- end }}
{{- end -}}

{{- /* Takes the same as shop.environment. */ -}}
{{- define "shop.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .context.Values.tmpSize }}
{{- if and .user (include "shop.saslEnabled" .context) }}
{{- $user := include "shop.kafkaUser" . | fromJson }}
- name: kafka-password
  secret:
    secretName: {{ $user.existingSecret }}
    defaultMode: 0440
    items:
      - key: {{ $user.key }}
        path: password
{{- end }}
{{- with .context.Values.kafka }}
{{- if and $.user .enabled .ca.existingSecret }}
- name: kafka-ca
  secret:
    secretName: {{ .ca.existingSecret }}
    defaultMode: 0444
    items:
      - key: {{ .ca.key }}
        path: ca.crt
{{- end }}
{{- end }}
{{- end -}}

{{- /*
Init containers that keep a pod from starting too early; takes what shop.environment takes, and `resources` and `duty` (what
`taskbridge check --for` is asked about; empty: nothing) with `services` and `mustHaveKafka`.
*/ -}}
{{- define "shop.waiting" -}}
- name: migrations
  {{- include "shop.container" . | nindent 2 }}
  command:
    - sh
    - -c
    - |
      limit=$(( $(date +%s) + {{ .context.Values.startup.migrationsTimeout }} ))
      until python manage.py migrate --check >/tmp/migrations 2>&1; do
        if [ "$(date +%s)" -ge "$limit" ]; then
          tail -n 3 /tmp/migrations
          echo "The database is not ready for this version. See what the job with the migrations says:" \
            "kubectl logs --namespace {{ .context.Release.Namespace }} --selector" \
            "app.kubernetes.io/instance={{ .context.Release.Name }},app.kubernetes.io/component=migrate"
          exit 1
        fi
        said="$(tail -n 1 /tmp/migrations)"
        echo "waiting for the migrations: ${said:-not all of them are applied yet}"
        sleep 3
      done
  {{- /* This one asks the database alone. */}}
  {{- include "shop.environment" (omit . "user") | nindent 2 }}
  volumeMounts:
    {{- include "shop.mounts" (omit . "user") | nindent 4 }}
{{- if and .duty .context.Values.kafka.enabled }}
- name: preflight
  {{- include "shop.container" . | nindent 2 }}
  command:
    {{- if .mustHaveKafka }}
    - taskbridge
    - check
    - --for={{ .duty }}
    - --wait={{ .context.Values.startup.kafkaTimeout }}
    {{- range .services }}
    - {{ . }}
    {{- end }}
    {{- else }}
    - sh
    - -c
    - |
      taskbridge check --for={{ .duty }} --wait={{ .context.Values.startup.dispatchTimeout }} {{ join " " .services }} ||
        echo "It starts all the same: as long as Kafka is not as it should be, {{ ternary "messages for it wait" "tasks go to Celery" (eq .role "relay") }}."
    {{- end }}
  {{- include "shop.environment" . | nindent 2 }}
  volumeMounts:
    {{- include "shop.mounts" . | nindent 4 }}
{{- end }}
{{- end -}}
