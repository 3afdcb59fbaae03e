"""Policies that scale a consumer group, on the same simulated loads; `benchmarks.autoscaler` is the command."""
