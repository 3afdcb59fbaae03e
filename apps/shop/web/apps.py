from django.apps import AppConfig


class WebConfig(AppConfig):
    name = "shop.web"

    def ready(self) -> None:
        """Connect the request id to Celery's signals, in every process."""
        from shop.web import tracing  # noqa: F401, PLC0415
