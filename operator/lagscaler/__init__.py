"""Scales Kafka consumers on Kubernetes by seconds behind, and carries kubectl's requests to the bridge."""

__version__ = "0.1.0"

__all__ = ["__version__"]
