"""The Kubernetes API: what the operator reads from it and writes to it."""
