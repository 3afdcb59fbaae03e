"""The kinds of resources that the operator reads, and where the API has them."""

from __future__ import annotations

from dataclasses import dataclass

from lagscaler.resources.reading import GROUP, VERSION


@dataclass(frozen=True, slots=True)
class Kind:
    """One of them."""

    name: str
    group: str
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        """As it stands in a resource."""
        return f"{self.group}/{self.version}"

    def path(self, namespace: str | None, name: str = "", sub: str = "") -> str:
        """Return the URL's path of one resource or subresource, or of all in a namespace or in the cluster."""
        parts = ["/apis", self.group, self.version]
        if namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, sub) if part]
        return "/".join(parts)


CONSUMERS = Kind("KafkaConsumer", GROUP, VERSION, "kafkaconsumers")
CUTOVERS = Kind("Cutover", GROUP, VERSION, "cutovers")
DEPLOYMENTS = Kind("Deployment", "apps", "v1", "deployments")
AUTOSCALERS = Kind("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers")
SCALED_OBJECTS = Kind("ScaledObject", "keda.sh", "v1alpha1", "scaledobjects")

OWN = (CONSUMERS, CUTOVERS)
"""The project's own."""


def watched(*, scaled_objects: bool) -> tuple[Kind, ...]:
    """Return the kinds that are looked at; KEDA's only where it is there and may be read."""
    return (*OWN, DEPLOYMENTS, AUTOSCALERS, *((SCALED_OBJECTS,) if scaled_objects else ()))
