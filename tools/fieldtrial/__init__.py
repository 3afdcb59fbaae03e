"""A field trial: somebody else's project, with a few lines changed, mirrored onto Kafka."""
