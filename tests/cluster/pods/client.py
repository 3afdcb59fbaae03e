"""How the plain consumer and those who feed it reach Kafka."""

from __future__ import annotations

from pathlib import Path

TOPIC = "shop.reports"
PARTITIONS = 6
CLIENT = {
    "bootstrap.servers": "kafka.kafka.svc.cluster.local:9092",
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanisms": "SCRAM-SHA-512",
    "sasl.username": "shop-pace",
    "sasl.password": Path("/etc/kafka/password").read_text().strip(),
}
