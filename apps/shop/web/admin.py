"""How the admin shows what the shop's own work writes."""

from typing import Any

from django.contrib import admin


class ReadOnlyAdmin(admin.ModelAdmin):
    """Shows rows and changes none."""

    def has_add_permission(self, *_: Any) -> bool:
        """Nobody may."""
        return False

    def has_change_permission(self, *_: Any) -> bool:
        """Nobody may."""
        return False

    def has_delete_permission(self, *_: Any) -> bool:
        """Nobody may."""
        return False
