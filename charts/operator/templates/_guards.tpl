{{- /* What the schema cannot see: values that only together make no sense, each with what to do. */ -}}
{{- define "operator.guard" -}}
{{- $values := .Values -}}
{{- if not (or $values.clusters $values.bridges) -}}
{{- fail "clusters and bridges are both empty, so there would be nothing to look at: say where Kafka is, with clusters.main.bootstrapServers=HOST:PORT, clusters.main.username and clusters.main.existingSecret" -}}
{{- end -}}
{{- if and $values.watch.clusterWide $values.watch.namespaces -}}
{{- fail "watch.clusterWide and watch.namespaces are both set: unset the one that is not meant" -}}
{{- end -}}
{{- if and (not $values.crds.install) (not (.Capabilities.APIVersions.Has "taskbridge.dev/v1alpha1/KafkaConsumer")) -}}
{{- fail "crds.install is false, and this cluster does not know KafkaConsumers (taskbridge.dev/v1alpha1): install their definitions first, or set crds.install=true" -}}
{{- end -}}
{{- range $name, $given := $values.clusters -}}
{{- $cluster := include "operator.cluster" $given | fromJson -}}
{{- if and $cluster.sasl (not (and $cluster.username $cluster.existingSecret)) -}}
{{- fail (printf "clusters.%s: %s needs a user: set username, and existingSecret to the Secret with its password under the key %s (or securityProtocol to SSL or PLAINTEXT)" $name $cluster.securityProtocol $cluster.key) -}}
{{- end -}}
{{- if and (not $cluster.sasl) (or $cluster.username $cluster.existingSecret) -}}
{{- fail (printf "clusters.%s: with %s there is no user: unset username and existingSecret, or set securityProtocol to SASL_SSL" $name $cluster.securityProtocol) -}}
{{- end -}}
{{- if and (not (hasSuffix "SSL" $cluster.securityProtocol)) (or $cluster.ca.existingSecret $cluster.certificate.existingSecret) -}}
{{- fail (printf "clusters.%s: with %s there is no TLS: unset ca.existingSecret and certificate.existingSecret, or set securityProtocol to SASL_SSL or SSL" $name $cluster.securityProtocol) -}}
{{- end -}}
{{- end -}}
{{- range $name, $given := $values.bridges -}}
{{- if not $given.existingSecret -}}
{{- fail (printf "bridges.%s.existingSecret is not set: name the Secret with the token of the bridge's HTTP API (its folder of tokens has a file of the same content)" $name) -}}
{{- end -}}
{{- end -}}
{{- $served := include "operator.namespaces" . | fromJsonArray -}}
{{- range $kind := list "clusters" "bridges" -}}
{{- range $name, $given := index $values $kind -}}
{{- $admitted := include "operator.admitted" (dict "root" $ "given" $given) | fromJsonArray -}}
{{- $used := has "*" $admitted | or (not $served) -}}
{{- range $admitted }}{{ if has . $served }}{{ $used = true }}{{ end }}{{ end -}}
{{- if not $used -}}
{{- fail (printf "%s.%s: nobody could use it, because its namespaces (%s) are none of those that are served (%s): set %s.%s.namespaces to those whose resources may name it, or to [\"*\"]" $kind $name (join ", " $admitted) (join ", " $served) $kind $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
