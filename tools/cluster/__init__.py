"""A real Kubernetes of two nodes on one Linux machine, without a container engine or an image registry."""

# Nothing is imported here: the processes inside a cluster's namespaces shall not load what only the commands need.
