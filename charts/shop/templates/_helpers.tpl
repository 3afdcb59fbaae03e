{{- define "shop.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* The first part of every name; 40 characters leave room for a service and for what Deployments add. */ -}}
{{- define "shop.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "shop.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "shop.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* What selects everything of a release. */ -}}
{{- define "shop.releaseLabels" -}}
app.kubernetes.io/name: {{ include "shop.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* What selects one workload; takes (dict "context" $ "component" "web"). */ -}}
{{- define "shop.selectorLabels" -}}
{{ include "shop.releaseLabels" .context }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- /* Labels of a resource; takes (dict "context" $ "component" "worker-orders" "role" "worker" "service" "orders"), the last two only of pods' owners. */ -}}
{{- define "shop.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .context.Chart.Name .context.Chart.Version | replace "+" "_" }}
{{ include "shop.selectorLabels" . }}
app.kubernetes.io/version: {{ default .context.Chart.AppVersion .context.Values.image.tag | trunc 63 | quote }}
app.kubernetes.io/part-of: taskbridge
app.kubernetes.io/managed-by: {{ .context.Release.Service }}
{{- with .role }}
taskbridge.dev/role: {{ . }}
{{- end }}
{{- with .service }}
taskbridge.dev/service: {{ . }}
{{- end }}
{{- with .context.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Labels of a pod: without the chart's version, which would restart every pod when only the chart changes. */ -}}
{{- define "shop.podLabels" -}}
{{ include "shop.selectorLabels" . }}
app.kubernetes.io/part-of: taskbridge
taskbridge.dev/role: {{ .role }}
{{- with .service }}
taskbridge.dev/service: {{ . }}
{{- end }}
{{- with .context.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* An image's reference; takes (dict "image" .Values.image "tag" "the default"). */ -}}
{{- define "shop.image" -}}
{{- with .image.registry }}{{ . }}/{{ end -}}
{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ default .tag .image.tag }}{{ end -}}
{{- end -}}

{{- /* The services that are on, sorted, as a JSON list of names. */ -}}
{{- define "shop.services" -}}
{{- $names := list -}}
{{- range $name, $service := .Values.services -}}
{{- if $service.enabled }}{{ $names = append $names $name }}{{ end -}}
{{- end -}}
{{- $names | toJson -}}
{{- end -}}

{{- /*
The workers to run, as a JSON list of objects: role, service, name (of the component), longest (seconds) and values, which
are the defaults of their kind with the service's own over them; takes (dict "context" $ "roles" (list "celery")).
*/ -}}
{{- define "shop.workers" -}}
{{- $context := .context -}}
{{- $kinds := dict "celery" "celeryWorker" "worker" "kafkaWorker" "shadow" "shadowWorker" -}}
{{- $workers := list -}}
{{- range $role := .roles -}}
{{- $kind := get $kinds $role -}}
{{- range $name := include "shop.services" $context | fromJsonArray -}}
{{- $service := get $context.Values.services $name -}}
{{- $values := mergeOverwrite (deepCopy (get $context.Values $kind)) (deepCopy (default dict (get $service $kind))) -}}
{{- if and $values.enabled (or (eq $role "celery") $context.Values.kafka.enabled) -}}
{{- $longest := default $context.Values.longestTaskSeconds $service.longestTaskSeconds -}}
{{- $workers = append $workers (dict "role" $role "service" $name "name" (printf "%s-%s" $role $name) "longest" $longest "values" $values) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $workers | toJson -}}
{{- end -}}

{{- /* Whether the operator carries requests of Cutovers to this release. */ -}}
{{- define "shop.drivenByOperator" -}}
{{- and .Values.operator.enabled .Values.kafka.enabled (ne .Values.operator.bridge "") -}}
{{- end -}}

{{- define "shop.appSecret" -}}
{{- default (printf "%s-app" (include "shop.fullname" .)) .Values.app.existingSecret -}}
{{- end -}}

{{- define "shop.databaseSecret" -}}
{{- ternary (printf "%s-postgresql" (include "shop.fullname" .)) .Values.database.existingSecret .Values.postgresql.enabled -}}
{{- end -}}

{{- define "shop.brokerSecret" -}}
{{- ternary (printf "%s-redis" (include "shop.fullname" .)) .Values.broker.existingSecret .Values.redis.enabled -}}
{{- end -}}

{{- /* A key's value in a Secret that the chart makes: as it is in the cluster, else new; takes (list $ "name" "key" 32). */ -}}
{{- define "shop.keptSecret" -}}
{{- $context := index . 0 -}}
{{- $found := lookup "v1" "Secret" $context.Release.Namespace (index . 1) -}}
{{- $value := dig "data" (index . 2) "" $found -}}
{{- if $value }}{{ b64dec $value }}{{ else }}{{ randAlphaNum (index . 3 | int) }}{{ end -}}
{{- end -}}

{{- /*
Who says how many pods a Deployment has, as JSON: `kept` (by-values, left-out, as-found) and, unless it is left out,
`replicas`; takes (dict "context" $ "name" "shop-web" "values" .Values.web).

Where somebody else scales, the number is best left out: then neither an upgrade nor a rollback has anything to change. But
a Deployment whose number stood in the release before would fall to one pod when it is left out. So there it is written as
it is found, until one is what is found.
*/ -}}
{{- define "shop.replicas" -}}
{{- if not (or (dig "hpa" "enabled" false .values) (dig "autoscaling" "enabled" false .values)) -}}
{{- dict "kept" "by-values" "replicas" .values.replicas | toJson -}}
{{- else -}}
{{- $found := lookup "apps/v1" "Deployment" .context.Release.Namespace .name -}}
{{- $written := and $found (ne (dig "metadata" "annotations" "taskbridge.dev/replicas" "" $found) "left-out") -}}
{{- if and $written (ne (int $found.spec.replicas) 1) -}}
{{- dict "kept" "as-found" "replicas" $found.spec.replicas | toJson -}}
{{- else -}}
{{- dict "kept" "left-out" | toJson -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* A HorizontalPodAutoscaler may be asked for and `replicas` be one: the budget must not count on either. */ -}}
{{- define "shop.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "shop.fullname" .context }}-{{ .component }}
  labels:
    {{- include "shop.labels" . | nindent 4 }}
spec:
  # One at a time also lets the only one go: work in progress is finished or given back before it ends.
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "shop.selectorLabels" . | nindent 6 }}
{{- end -}}
