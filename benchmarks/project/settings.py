"""Django settings: nothing but what the bridge needs, with one service for every stage that is measured."""

import os
from urllib.parse import unquote, urlsplit

database = urlsplit(os.environ["DATABASE_URL"])

SECRET_KEY = os.urandom(16).hex()
USE_TZ = True
INSTALLED_APPS = ["taskbridge.contrib.django"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": database.hostname,
        "PORT": database.port,
        "USER": unquote(database.username or ""),
        "PASSWORD": unquote(database.password or ""),
        "NAME": database.path.lstrip("/"),
    }
}
PREFIX = "bench"
TASKBRIDGE = {
    "prefix": PREFIX,
    # Small enough that it is full within a moment of Kafka's going away.
    "copy_buffer": 1_000,
    "services": {
        "work": {"tasks": ["benchmarks.project.tasks.nothing"], "partitions": 6},
        "off": {"tasks": ["benchmarks.project.tasks.off"]},
        "mirror": {"tasks": ["benchmarks.project.tasks.mirror"]},
        "live": {"tasks": ["benchmarks.project.tasks.live"]},
        "barrier": {"tasks": ["benchmarks.project.tasks.barrier"], "publish": "barrier"},
    },
}
