from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest

from shop.payouts import services
from shop.payouts.models import Payout
from shop.payouts.tasks import WHEN_APPROVED, send_payout


@admin.register(Payout)
class PayoutAdmin(admin.ModelAdmin):
    list_display = ["id", "supplier", "amount_minor", "currency", "state", "due_at", "approved_by", "sent_at"]
    list_filter = ["state", "currency"]
    list_select_related = ["supplier", "approved_by"]
    search_fields = ["order__id", "supplier__slug"]
    actions = ["approve"]

    @admin.action(description="Approve selected payouts", permissions=["approve"])
    def approve(self, request: HttpRequest, chosen: QuerySet[Payout]) -> None:
        """Approve the chosen payouts and have them sent at once."""
        approved = 0
        for payout_id in chosen.order_by("pk").values_list("pk", flat=True):
            try:
                with transaction.atomic():
                    payout = services.approve(payout_id, request.user)
                    self.log_change(request, payout, "Approved.")
                    send_payout.apply_async_on_commit((payout_id,), priority=WHEN_APPROVED)
            except services.NotAwaitingApprovalError as problem:
                self.message_user(request, str(problem), messages.WARNING)
            else:
                approved += 1
        self.message_user(request, f"{approved} approved.", messages.SUCCESS)

    def has_approve_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may approve large payouts."""
        return request.user.has_perm("payouts.approve_payout")

    def has_add_permission(self, *_: Any) -> bool:
        """Payouts come from orders alone."""
        return False

    def has_delete_permission(self, *_: Any) -> bool:
        """Payouts are kept."""
        return False

    def get_readonly_fields(self, *_: Any) -> list[str]:
        """Everything: a payout changes by approval and by being sent."""
        return [field.name for field in Payout._meta.fields]
