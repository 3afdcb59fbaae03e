from django.apps import AppConfig
from django.conf import settings


class JournalConfig(AppConfig):
    name = "shop.journal"

    def ready(self) -> None:
        """Listen to Celery if the journal is switched on."""
        if settings.SHOP_JOURNAL:
            from shop.journal import recording  # noqa: PLC0415 - its models need the loaded apps

            recording.connect()
