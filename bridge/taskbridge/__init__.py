"""
Move Celery task dispatch onto Apache Kafka, one service at a time.

The names exported here are the public interface; everything else may change between minor versions.
"""

__version__ = "0.1.0"
