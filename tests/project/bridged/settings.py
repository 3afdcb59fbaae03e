"""Django settings: nothing but what the bridge needs."""

import os
from urllib.parse import unquote, urlsplit

database = urlsplit(os.environ["DATABASE_URL"])

SECRET_KEY = os.urandom(16).hex()
USE_TZ = True
INSTALLED_APPS = ["taskbridge.contrib.django", "bridged"]
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
TASKBRIDGE = {
    "prefix": os.environ["BRIDGED_PREFIX"],
    "services": {
        "work": {
            "tasks": ["bridged.tasks.*", "bridged.witnesses.*", "celery.accumulate"],
            "partitions": 4,
            "keys": {"bridged.tasks.keyed": "key", "bridged.witnesses.größe*": "größe"},
        },
        "elsewhere": {"queues": ["elsewhere"], "partitions": 2},
    },
    "group_protocol": os.environ.get("BRIDGED_GROUP_PROTOCOL", "consumer"),
    "publish_timeout": float(os.environ.get("BRIDGED_PUBLISH_TIMEOUT", "5")),
    "breaker_seconds": float(os.environ.get("BRIDGED_BREAKER_SECONDS", "5")),
    "flag_stale_after": float(os.environ.get("BRIDGED_FLAG_STALE_AFTER", "10")),
    "max_pending": int(os.environ.get("BRIDGED_MAX_PENDING", "1000000")),
    "copy_buffer": int(os.environ.get("BRIDGED_COPY_BUFFER", "20000")),
}
if "BRIDGED_TURNS" in os.environ:
    TASKBRIDGE["services"]["turns"] = {
        "tasks": ["bridged.turns.*"],
        "partitions": 3,
        "keys": {"*": "key"},
        "ordered": True,
    }
