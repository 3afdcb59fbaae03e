{{- /* Everything that would make an install fail later, or lose records, said before anything is rendered. */ -}}
{{- define "kafka.guard" -}}
{{- $strimzi := or (eq .Values.mode "strimzi") .Values.connect.enabled -}}
{{- if and $strimzi (not (.Capabilities.APIVersions.Has "kafka.strimzi.io/v1/Kafka")) -}}
{{- $watched := list .Release.Namespace (include "kafka.userNamespace" .) | uniq -}}
{{- $missing := "" -}}
{{- range $watched }}{{ $missing = printf "%s  kubectl create namespace %s\n" $missing . }}{{ end -}}
{{- fail (printf "Strimzi's resources (kafka.strimzi.io/v1) are not known to this cluster. Install the operator first, once the namespaces are there:\n\n%s  helm install strimzi oci://quay.io/strimzi-helm/strimzi-kafka-operator --version 1.2.0 --namespace strimzi --create-namespace --set 'watchNamespaces={%s}' --set 'extraEnvs[0].name=STRIMZI_POD_SECURITY_PROVIDER_CLASS' --set 'extraEnvs[0].value=restricted'\n  kubectl wait --for=condition=Established crd/kafkas.kafka.strimzi.io --timeout=60s\n\nand this release again. To use a Kafka that is there already: --set mode=external --set external.bootstrapServers=HOST:PORT.\nTo render without a cluster: helm template … --api-versions kafka.strimzi.io/v1/Kafka" $missing (join "," $watched)) -}}
{{- end -}}
{{- if eq .Values.mode "strimzi" -}}
{{- include "kafka.guard.cluster" . -}}
{{- else -}}
{{- include "kafka.guard.external" . -}}
{{- end -}}
{{- if .Values.connect.enabled -}}
{{- include "kafka.guard.connect" . -}}
{{- end -}}
{{- $names := list -}}
{{- range .Values.topics.services -}}
{{- $names = append $names (replace "_" "-" .name) -}}
{{- end -}}
{{- if ne (len $names) (len (uniq $names)) -}}
{{- fail "topics.services names a service twice, or two whose names differ in \"_\" and \"-\" alone: their users would have one name. Rename one of them." -}}
{{- end -}}
{{- end -}}

{{- define "kafka.guard.cluster" -}}
{{- $profile := include "kafka.profile" . | fromYaml -}}
{{- if gt (int $profile.replicationFactor) (int $profile.brokers.replicas) -}}
{{- fail (printf "profiles.%s.replicationFactor is %v, and there are %v brokers to hold the replicas: set it to at most %v." .Values.profile $profile.replicationFactor $profile.brokers.replicas $profile.brokers.replicas) -}}
{{- end -}}
{{- if and (gt (int $profile.replicationFactor) 1) (ge (int $profile.minInsyncReplicas) (int $profile.replicationFactor)) -}}
{{- fail (printf "profiles.%s.minInsyncReplicas is %v of %v replicas: nothing could be written while one broker restarts. Set it to %v." .Values.profile $profile.minInsyncReplicas $profile.replicationFactor (sub (int $profile.replicationFactor) 1)) -}}
{{- end -}}
{{- $kept := mul (int64 .Values.kafka.offsetsRetentionMinutes) 60000 -}}
{{- $longest := int64 (include "kafka.longestRetention" .) -}}
{{- if le $kept $longest -}}
{{- fail (printf "kafka.offsetsRetentionMinutes is %v, and topics are kept for %v minutes: a service that stands still would lose its place while its records are there. Set it above %v." .Values.kafka.offsetsRetentionMinutes (div $longest 60000) (div $longest 60000)) -}}
{{- end -}}
{{- end -}}

{{- define "kafka.guard.external" -}}
{{- if not .Values.external.bootstrapServers -}}
{{- fail "mode is external: say where that Kafka is, with external.bootstrapServers=HOST:PORT." -}}
{{- end -}}
{{- $namespace := include "kafka.userNamespace" . -}}
{{- /* Without a cluster lookup finds nothing at all, not even the namespace. */ -}}
{{- if lookup "v1" "Namespace" "" $namespace -}}
{{- range $role, $secret := .Values.external.existingSecrets -}}
{{- $found := lookup "v1" "Secret" $namespace $secret -}}
{{- if not $found -}}
{{- fail (printf "external.existingSecrets.%s names the Secret %s, which is not in namespace %s. Create it:\n\n  kubectl -n %s create secret generic %s --from-file=password=FILE" $role $secret $namespace $namespace $secret) -}}
{{- else if not (hasKey (default dict $found.data) "password") -}}
{{- fail (printf "external.existingSecrets.%s names the Secret %s in namespace %s, which has no key \"password\"." $role $secret $namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "kafka.guard.connect" -}}
{{- $connect := .Values.connect -}}
{{- if and (eq .Values.mode "external") (not $connect.existingSecret) -}}
{{- fail "connect.enabled with mode=external: name the Secret with Connect's password in connect.existingSecret." -}}
{{- end -}}
{{- if and (ne $connect.plugins.mode "mount") (not $connect.image) -}}
{{- fail (printf "connect.plugins.mode is %s: name the image in connect.image, with an exact tag or a digest." $connect.plugins.mode) -}}
{{- end -}}
{{- if or (hasSuffix ":latest" $connect.image) (hasSuffix ":latest" $connect.plugins.reference) -}}
{{- fail "connect.image and connect.plugins.reference must not be :latest, or every restart may run something else. Give an exact tag or a digest." -}}
{{- end -}}
{{- if and (eq $connect.plugins.mode "mount") (not $connect.plugins.reference) -}}
{{- fail "connect.plugins.mode is mount: name the image with Debezium's files in connect.plugins.reference." -}}
{{- end -}}
{{- if $connect.outbox.enabled -}}
{{- range $key := list "host" "name" "existingSecret" -}}
{{- if not (index $connect.outbox.database $key) -}}
{{- fail (printf "connect.outbox.enabled: connect.outbox.database.%s is empty." $key) -}}
{{- end -}}
{{- end -}}
{{- if and (hasPrefix "verify-" $connect.outbox.database.sslmode) (not $connect.outbox.database.caKey) -}}
{{- fail (printf "connect.outbox.database.sslmode is %s: put the authority that signed PostgreSQL's certificate (PEM) into the Secret %s, and name its key in connect.outbox.database.caKey." $connect.outbox.database.sslmode $connect.outbox.database.existingSecret) -}}
{{- end -}}
{{- end -}}
{{- end -}}
