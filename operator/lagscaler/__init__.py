"""Scales Kafka consumers on Kubernetes by seconds behind, and carries kubectl's requests to the bridge."""
