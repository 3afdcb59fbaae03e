"""Lag, correctly: what Kafka knows of groups and logs, asked with Describe rights alone."""
