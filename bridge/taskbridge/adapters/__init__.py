"""What connects the core to Celery and Kafka."""
