"""Django settings: nothing but what the bridge needs."""

import os
from urllib.parse import unquote, urlsplit

database = urlsplit(os.environ["DATABASE_URL"])

SECRET_KEY = os.urandom(16).hex()
USE_TZ = True
INSTALLED_APPS = ["taskbridge.contrib.django", "soaked"]
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
    "prefix": os.environ["SOAKED_PREFIX"],
    "services": {
        mode: {"tasks": [f"soaked.tasks.{mode}_*"], "partitions": 4, "publish": mode}
        for mode in ("confirm", "barrier", "outbox")
    },
}
