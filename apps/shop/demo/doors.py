"""The two ways into the shop that traffic can take: its functions in this process, or its HTTP API."""

import httpx

from shop.catalog.models import Product
from shop.demo.actions import Action, BadOrder, CancelOrder, PlaceOrder, Restock, SendNewsletter
from shop.inventory.tasks import restock
from shop.notifications.workflow import schedule_newsletter
from shop.orders import workflow
from shop.orders.services import InvalidOrderError, KeyReusedError, Wanted
from shop.orders.states import IllegalMoveError

SUBJECT = "New this week"
BODY = "Have a look at what came in this week."


class UnexpectedAnswerError(Exception):
    """The shop answered an action in a way that it should not have."""


class Functions:
    """Calls the services that the HTTP views call, in this process."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._orders: dict[int, str] = {}

    def perform(self, action: Action) -> str:
        """Do it and return `done`, `refused` or `too late`."""
        match action:
            case PlaceOrder(serial, customer, lines):
                self._orders[serial] = self._place(serial, customer, lines)
            case BadOrder(customer, lines):
                return self._refused(customer, lines)
            case CancelOrder(serial):
                return self._cancel(serial)
            case Restock(sku, quantity):
                Product.objects.only("pk").get(sku=sku)
                restock.delay(sku, quantity)
            case SendNewsletter(serial, audience, wait):
                schedule_newsletter(f"{self._label}-{serial:04d}", SUBJECT, BODY, audience, wait)
        return "done"

    def _place(self, serial: int, customer: str, lines: tuple[tuple[str, int], ...]) -> str:
        wanted = [Wanted(*line) for line in lines]
        try:
            order, _ = workflow.place_order(customer, wanted, f"{self._label}-{serial:06d}")
        except (InvalidOrderError, KeyReusedError) as problem:
            raise UnexpectedAnswerError(f"an order was refused: {problem}") from problem
        return str(order.pk)

    def _refused(self, customer: str, lines: tuple[tuple[str, int], ...]) -> str:
        try:
            workflow.place_order(customer, [Wanted(*line) for line in lines], f"{self._label}-bad")
        except InvalidOrderError:
            return "refused"
        raise UnexpectedAnswerError("an order that makes no sense was accepted")

    def _cancel(self, serial: int) -> str:
        try:
            return "done" if workflow.cancel_order(self._orders[serial]) else "too late"
        except IllegalMoveError:
            return "too late"


class Http:
    """Calls the HTTP API at an address, with a token."""

    def __init__(self, label: str, url: str, token: str) -> None:
        self._label = label
        self._orders: dict[int, str] = {}
        self._client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False
        )

    def perform(self, action: Action) -> str:
        """Do it and return `done`, `refused` or `too late`; raise UnexpectedAnswerError."""
        match action:
            case PlaceOrder(serial, customer, lines):
                key = {"Idempotency-Key": f"{self._label}-{serial:06d}"}
                answer = self._post("api/orders/", _order(customer, lines), headers=key, expected=(200, 201))
                self._orders[serial] = answer.json()["id"]
            case BadOrder(customer, lines):
                self._post("api/orders/", _order(customer, lines), expected=(400,))
                return "refused"
            case CancelOrder(serial):
                path = f"api/orders/{self._orders[serial]}/cancel/"
                answer = self._post(path, {}, expected=(200, 409))
                return "done" if answer.status_code == 200 and answer.json()["state"] == "cancelled" else "too late"
            case Restock(sku, quantity):
                self._post(f"api/products/{sku}/restock/", {"quantity": quantity}, expected=(202,))
            case SendNewsletter(serial, audience, wait):
                slug = f"{self._label}-{serial:04d}"
                content = {"slug": slug, "subject": SUBJECT, "body": BODY, "audience": audience, "wait": wait}
                self._post("api/newsletters/", content, expected=(202,))
        return "done"

    def _post(
        self, path: str, content: object, *, expected: tuple[int, ...], headers: dict[str, str] | None = None
    ) -> httpx.Response:
        try:
            answer = self._client.post(path, json=content, headers=headers)
        except httpx.TransportError as problem:
            raise UnexpectedAnswerError(f"{self._client.base_url} cannot be reached: {problem}") from problem
        if answer.status_code not in expected:
            raise UnexpectedAnswerError(f"{path} answered {answer.status_code}: {answer.text[:200]}")
        return answer


def _order(customer: str, lines: tuple[tuple[str, int], ...]) -> dict[str, object]:
    return {"customer": customer, "lines": [{"sku": sku, "quantity": quantity} for sku, quantity in lines]}
