"""
Django's and Celery's settings, all from the environment.

https://docs.djangoproject.com/en/5.2/ref/settings/
https://docs.celeryq.dev/en/stable/userguide/configuration.html
"""

import os
import secrets
import sys

from celery.schedules import crontab

from shop import environment

try:
    DEBUG = environment.flag(os.environ, "DJANGO_DEBUG")
    SECRET_KEY = (
        os.environ.get("DJANGO_SECRET_KEY") or secrets.token_urlsafe(50)
        if DEBUG
        else environment.required(os.environ, "DJANGO_SECRET_KEY", "fifty random characters")
    )
    ALLOWED_HOSTS = environment.words(os.environ, "DJANGO_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
    SHOP_API_TOKENS = environment.words(os.environ, "SHOP_API_TOKENS")
    SHOP_JOURNAL = environment.flag(os.environ, "SHOP_JOURNAL")
    SHOP_SERVE_STATIC = environment.flag(os.environ, "SHOP_SERVE_STATIC", default=DEBUG)
    SHOP_PLAIN_HTTP = environment.flag(os.environ, "SHOP_PLAIN_HTTP", default=DEBUG)
    SHOP_PAYOUT_DELAY = environment.number(os.environ, "SHOP_PAYOUT_DELAY", 5.0)
    SHOP_FOLLOW_UP_DELAY = environment.number(os.environ, "SHOP_FOLLOW_UP_DELAY", 15.0)
    SHOP_UNPAID_AFTER = environment.number(os.environ, "SHOP_UNPAID_AFTER", 1800.0)
    SHOP_QUIET_BEFORE_COMPLETE = environment.number(os.environ, "SHOP_QUIET_BEFORE_COMPLETE", 86_400.0)
    SHOP_LARGE_PAYOUT_MINOR = int(environment.number(os.environ, "SHOP_LARGE_PAYOUT_MINOR", 100_000))
    _database = environment.database(
        environment.required(os.environ, "DATABASE_URL", "postgresql://user:password@localhost:5432/shop")
    )
    _redis = environment.required(os.environ, "REDIS_URL", "redis://localhost:6379")
    _broker, _results = environment.redis_database(_redis, 0), environment.redis_database(_redis, 1)
    _email = environment.email(
        os.environ.get("EMAIL_URL") or "memory:"
        if DEBUG
        else environment.required(os.environ, "EMAIL_URL", "smtp://mail.example.com:25 or file:///tmp/mail")
    )
except environment.EnvironmentProblem as problem:
    # Whichever command loads the settings (manage.py, celery, gunicorn), it cannot go on, and a
    # traceback through its loader would hide the one sentence that matters.
    sys.exit(f"shop: {problem}")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "shop.catalog",
    "shop.orders",
    "shop.inventory",
    "shop.fraud",
    "shop.payments",
    "shop.payouts",
    "shop.notifications",
    "shop.reports",
    "shop.journal",
    "shop.demo",
    "shop.web",
    "taskbridge.contrib.django",
]

MIDDLEWARE = [
    # Probes and scrapes call by address, which ALLOWED_HOSTS does not list: answer them before it is asked.
    "shop.web.health.HealthMiddleware",
    "shop.web.metrics.MetricsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "shop.web.tracing.RequestIdMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

ROOT_URLCONF = "shop.config.urls"
WSGI_APPLICATION = "shop.config.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("MinimumLengthValidator", "CommonPasswordValidator", "NumericPasswordValidator")
]

TIME_ZONE = "UTC"
USE_TZ = True
LANGUAGE_CODE = "en-gb"

STATIC_URL = "static/"
STATIC_ROOT = os.environ.get("DJANGO_STATIC_ROOT") or None

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not SHOP_PLAIN_HTTP
SECURE_PROXY_SSL_HEADER = None if SHOP_PLAIN_HTTP else ("HTTP_X_FORWARDED_PROTO", "https")
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024

ADMINS = [(address, address) for address in environment.words(os.environ, "SHOP_ADMINS")]
DEFAULT_FROM_EMAIL = SERVER_EMAIL = os.environ.get("DEFAULT_FROM_EMAIL", "shop@example.com")
globals().update(_email)

_database |= {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}
DATABASES = {
    "default": _database,
    # The journal's own connection to the same database: a task that rolls back keeps its rows. They
    # need to survive a killed process, not a killed server, so nobody waits for the disk.
    "journal": _database
    | {
        "OPTIONS": _database["OPTIONS"]
        | {"options": f"{_database['OPTIONS'].get('options', '')} -c synchronous_commit=off".strip()},
        "CONN_HEALTH_CHECKS": False,
        "TEST": {"MIRROR": "default"},
    },
}
DATABASE_ROUTERS = ["shop.journal.routers.JournalRouter"]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": {"()": "shop.web.tracing.RequestIdFilter"}},
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["request_id"]}},
    "loggers": {"shop": {"handlers": ["stderr"], "level": "INFO", "propagate": False}},
}

CELERY_BROKER_URL = _broker
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # Redis has no priorities: kombu keeps one list per step. 0 is served first.
    "priority_steps": [0, 3, 6, 9],
    "queue_order_strategy": "priority",
    # Redis hands a message out again when it stays unacknowledged this long, which an eta does.
    "visibility_timeout": 12 * 3600,
}
CELERY_RESULT_BACKEND = _results
CELERY_RESULT_EXPIRES = 24 * 3600
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_TIMEZONE = "UTC"
CELERY_ENABLE_UTC = True
CELERY_TASK_SEND_SENT_EVENT = False
CELERY_TASK_DEFAULT_QUEUE = "orders"
CELERY_TASK_ROUTES = {
    "shop.orders.tasks.*": {"queue": "orders"},
    "shop.inventory.tasks.*": {"queue": "inventory"},
    "shop.fraud.tasks.*": {"queue": "fraud"},
    "shop.payments.tasks.refund_payment": {"queue": "payments", "priority": 3},
    "shop.payments.tasks.*": {"queue": "payments", "priority": 0},
    "shop.payouts.tasks.*": {"queue": "payouts", "priority": 6},
    "shop.notifications.tasks.*": {"queue": "notifications"},
    "shop.catalog.tasks.*": {"queue": "catalog"},
    "shop.reports.tasks.*": {"queue": "reports", "priority": 6},
}
CELERY_WORKER_PREFETCH_MULTIPLIER = 4
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# A new database connection for every task costs more than most tasks do.
CELERY_DB_REUSE_MAX = 500

CELERY_BEAT_SCHEDULE = {
    "nightly-totals": {
        "task": "shop.reports.tasks.nightly_totals",
        "schedule": crontab(hour=2, minute=0),
        "options": {"priority": 9},
    },
    "expire-unpaid-orders": {
        "task": "shop.orders.tasks.expire_unpaid_orders",
        "schedule": 60.0,
        "options": {"expires": 55.0},
    },
    "crawl-feeds": {
        "task": "shop.catalog.tasks.crawl_feeds",
        "schedule": 900.0,
        "options": {"expires": 600.0},
    },
}

# Each of the shop's services can be moved to Kafka on its own. Where a task is about an order, the order is its key.
TASKBRIDGE = {
    "prefix": os.environ.get("SHOP_TOPIC_PREFIX", "shop"),
    "salt": "shop",
    "api_tokens": os.environ.get("SHOP_BRIDGE_TOKENS", ""),
    # A rehearsal is not a day long.
    "quiet_before_complete": SHOP_QUIET_BEFORE_COMPLETE,
    "services": {
        service: {
            "tasks": [f"shop.{service}.tasks.*"],
            "queues": [service],
            "keys": {"*": "order_id"},
            "partitions": 6,
        }
        for service in (
            "orders",
            "inventory",
            "fraud",
            "payments",
            "payouts",
            "notifications",
            "catalog",
            "reports",
        )
    },
}
