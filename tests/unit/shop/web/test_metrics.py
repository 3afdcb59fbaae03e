"""Where metrics are answered, and where there is nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ASK = """
import django
from django.test import RequestFactory

django.setup()
from django.http import HttpResponse
from shop.web import metrics

metrics.metrics = lambda request: HttpResponse("counted")
ask = metrics.MetricsMiddleware(lambda request: HttpResponse("the shop"))
for path, port in (("/metrics", "8080"), ("/metrics", "8000"), ("/orders", "8080")):
    print(ask(RequestFactory().get(path, SERVER_PORT=port, HTTP_HOST="127.0.0.1:8080")).content.decode())
"""


@pytest.mark.parametrize(
    ("port", "answers"),
    [
        ("8080", ["counted", "the shop", "the shop"]),
        ("", ["the shop", "the shop", "the shop"]),
    ],
    ids=["a port of their own", "no port"],
)
def test_metrics_are_answered_at_their_port_alone(port: str, answers: list[str]) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "DJANGO_SETTINGS_MODULE": "shop.config.settings",
        "DJANGO_DEBUG": "1",
        "DATABASE_URL": "postgresql://nobody@localhost/none",
        "REDIS_URL": "redis://localhost",
        "SHOP_METRICS_PORT": port,
    }
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == answers, done.stderr
