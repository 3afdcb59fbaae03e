"""The WSGI application, for gunicorn: `gunicorn shop.config.wsgi`."""

import os

from django.conf import settings
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.config.settings")


def build() -> WSGIHandler:
    """Return the application, with the admin's static files when nothing before it serves them."""
    handler = get_wsgi_application()
    return StaticFilesHandler(handler) if settings.SHOP_SERVE_STATIC else handler


application = build()
