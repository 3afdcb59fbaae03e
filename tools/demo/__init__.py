"""The shop on all its servers: a story that moves two services to Kafka under load, and a system to look around in."""
