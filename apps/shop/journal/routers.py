"""The journal goes over its own connection; its tables are migrated with all the others."""

from typing import Any


class JournalRouter:
    """Send the journal's queries to the `journal` alias, and migrate nothing there."""

    def db_for_read(self, model: type, **_hints: Any) -> str | None:
        """Return `journal` for the journal's models."""
        return "journal" if model._meta.app_label == "journal" else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, *_labels: str, **_hints: Any) -> bool | None:
        """Both aliases are one database: create every table once."""
        return False if db == "journal" else None
