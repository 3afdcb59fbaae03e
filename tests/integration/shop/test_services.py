"""What services do in the database, also when they are repeated or race each other."""

from itertools import count
from secrets import token_hex
from threading import Barrier, Thread

from tests.integration.shop.inside import inside_shop

RUN = token_hex(4)
_serial = count()


def new_product(stock=100, price_minor=1_000, supplier=None, currency="EUR"):
    from shop.catalog.models import Product, Supplier
    from shop.inventory.models import Stock

    name = f"{RUN}-{next(_serial)}"
    supplier = supplier or Supplier.objects.create(slug=f"s-{name}", name=name)
    product = Product.objects.create(sku=name, name=name, supplier=supplier, price_minor=price_minor, currency=currency)
    Stock.objects.create(product=product, available=stock)
    return product


def new_customer(**fields):
    from shop.orders.models import Customer

    name = f"{RUN}-{next(_serial)}"
    return Customer.objects.create(
        **{"number": name, "name": name, "email": f"{name}@example.net", "card_token": f"tok_{name}", **fields}
    )


def new_order(*lines, customer=None, key=None):
    from shop.orders.services import Wanted, create_order

    wanted = [Wanted(product.sku, quantity) for product, quantity in lines]
    customer = customer or new_customer()
    order, created = create_order(customer.number, wanted, key or f"{RUN}-{next(_serial)}")
    assert created
    return order


def confirmed_order(*lines):
    from shop.fraud.services import assess
    from shop.inventory.services import reserve
    from shop.orders.services import advance, validate
    from shop.orders.states import State
    from shop.payments.services import authorize

    order = new_order(*lines)
    validate(order.pk)
    for line in order.lines.all():
        reserve(line.pk)
    advance(order.pk, State.RESERVED)
    assess(order.pk)
    authorize(order.pk, attempt=5)
    return advance(order.pk, State.CONFIRMED)


def raised(expected, function, *arguments, **keywords):
    try:
        function(*arguments, **keywords)
    except expected as problem:
        return str(problem)
    raise AssertionError(f"{function.__name__} raised no {expected.__name__}")


def available(product):
    from shop.inventory.models import Stock

    return Stock.objects.get(pk=product.pk).available


def together(*functions):
    """Run functions at the same time, each on a connection of its own; return what each returned or raised."""
    from django.db import connections

    outcomes = [None] * len(functions)
    start = Barrier(len(functions))

    def run(position, function):
        start.wait()
        try:
            outcomes[position] = function()
        except Exception as problem:  # noqa: BLE001 - the outcome is what the test looks at
            outcomes[position] = problem
        finally:
            connections.close_all()

    threads = [Thread(target=run, args=item) for item in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return outcomes


@inside_shop
def test_an_order_keeps_the_prices_of_the_moment():
    product = new_product(price_minor=12_000)
    order = new_order((product, 2))
    product.price_minor = 1
    product.save()
    assert (order.total_minor, order.discount_minor, order.shipping_minor) == (23_520, 480, 0)
    assert order.lines.get().unit_price_minor == 12_000


@inside_shop
def test_the_same_key_places_one_order_and_another_order_needs_another_key():
    from shop.orders.models import Order
    from shop.orders.services import KeyReusedError, Wanted, create_order

    customer, product = new_customer(), new_product()
    order = new_order((product, 1), customer=customer, key=f"{RUN}-twice")
    again, created = create_order(customer.number, [Wanted(product.sku, 1)], f"{RUN}-twice")
    assert (again.pk, created) == (order.pk, False)
    raised(KeyReusedError, create_order, customer.number, [Wanted(product.sku, 2)], f"{RUN}-twice")
    assert Order.objects.filter(customer=customer).count() == 1


@inside_shop
def test_the_same_key_at_the_same_time_places_one_order():
    from shop.orders.services import Wanted, create_order

    customer, product = new_customer(), new_product()

    def place():
        return create_order(customer.number, [Wanted(product.sku, 1)], f"{RUN}-race")

    outcomes = together(place, place, place)
    assert sorted(created for _, created in outcomes) == [False, False, True]
    assert len({order.pk for order, _ in outcomes}) == 1


@inside_shop
def test_what_cannot_be_ordered_is_refused_and_leaves_nothing():
    from shop.orders.models import Order
    from shop.orders.services import InvalidOrderError, Wanted, create_order

    customer, product, foreign = new_customer(), new_product(), new_product(currency="NOK")
    for number, wanted, problem in (
        ("nobody", [Wanted(product.sku, 1)], "no customer 'nobody'"),
        (customer.number, [Wanted("nothing", 1)], "no product 'nothing'"),
        (customer.number, [], "1 to 20 lines"),
        (customer.number, [Wanted(product.sku, 0)], "1 to 100"),
        (customer.number, [Wanted(product.sku, 101)], "1 to 100"),
        (customer.number, [Wanted(product.sku, 1)] * 2, "two lines"),
        (customer.number, [Wanted(product.sku, 1), Wanted(foreign.sku, 1)], "same currency"),
    ):
        assert problem in raised(InvalidOrderError, create_order, number, wanted, f"{RUN}-bad")
    assert not Order.objects.filter(idempotency_key=f"{RUN}-bad").exists()


@inside_shop
def test_a_blocked_customer_and_a_withdrawn_product_fail_validation():
    from shop.orders.services import InvalidOrderError, validate

    product = new_product()
    assert "blocked" in raised(
        InvalidOrderError, validate, new_order((product, 1), customer=new_customer(blocked=True)).pk
    )
    order = new_order((product, 1))
    product.active = False
    product.save()
    assert "no longer sold" in raised(InvalidOrderError, validate, order.pk)


@inside_shop
def test_a_repeated_reservation_takes_the_pieces_once():
    from shop.inventory.services import reserve

    product = new_product(stock=10)
    line = new_order((product, 3)).lines.get()
    assert [reserve(line.pk), reserve(line.pk)] == [7, 7]
    assert together(*[lambda: reserve(line.pk)] * 3) == [7, 7, 7]
    assert available(product) == 7


@inside_shop
def test_the_last_pieces_go_to_one_order_only():
    from shop.inventory.services import OutOfStockError, reserve

    product = new_product(stock=5)
    lines = [new_order((product, 3)).lines.get().pk for _ in range(3)]
    outcomes = together(*[lambda line=line: reserve(line) for line in lines])
    assert outcomes.count(2) == 1
    assert [type(outcome) for outcome in outcomes].count(OutOfStockError) == 2
    assert available(product) == 2


@inside_shop
def test_a_cancellation_that_races_reservations_leaves_no_piece_behind():
    from shop.inventory.services import release, reserve
    from shop.orders.services import close, validate
    from shop.orders.states import State

    first, second = new_product(stock=10), new_product(stock=10)
    for _ in range(10):
        order = new_order((first, 2), (second, 3))
        validate(order.pk)
        lines = list(order.lines.values_list("pk", flat=True))

        def cancel(order=order):
            close(order.pk, State.CANCELLED, "")
            return release(order.pk)

        together(cancel, *[lambda line=line: reserve(line) for line in lines])
        assert (available(first), available(second)) == (10, 10)


@inside_shop
def test_what_was_reserved_is_released_once():
    from shop.inventory.services import release

    product = new_product(stock=10)
    order = confirmed_order((product, 4))
    assert available(product) == 6
    assert [release(order.pk), release(order.pk)] == [4, 0]
    assert available(product) == 10


@inside_shop
def test_steps_of_a_closed_order_refuse_to_go_on():
    from shop.fraud.services import assess
    from shop.inventory.services import reserve
    from shop.orders.services import advance, close, validate
    from shop.orders.states import OrderClosedError, State
    from shop.payments.services import authorize

    order = new_order((new_product(), 1))
    validate(order.pk)
    assert close(order.pk, State.CANCELLED, "") is True
    assert close(order.pk, State.REJECTED, "") is False
    raised(OrderClosedError, reserve, order.lines.get().pk)
    raised(OrderClosedError, assess, order.pk)
    raised(OrderClosedError, authorize, order.pk, 0)
    raised(OrderClosedError, advance, order.pk, State.CONFIRMED)
    order.refresh_from_db()
    assert order.state == "cancelled"


@inside_shop
def test_a_repeated_score_counts_the_order_once_in_the_customers_total():
    from shop.fraud.models import CustomerTotal
    from shop.fraud.services import assess

    order = confirmed_order((new_product(), 1))
    assert assess(order.pk) == assess(order.pk) == 0
    total = CustomerTotal.objects.get(pk=order.customer_id)
    assert (total.total_minor, total.orders) == (order.total_minor, 1)


@inside_shop
def test_a_refused_order_is_on_record_and_not_cleared():
    from shop.fraud.models import Assessment
    from shop.fraud.services import SuspectedFraudError, assess
    from shop.orders.services import advance, validate
    from shop.orders.states import State

    order = new_order((new_product(price_minor=300_000), 1))
    validate(order.pk)
    advance(order.pk, State.RESERVED)
    raised(SuspectedFraudError, assess, order.pk)
    assert Assessment.objects.get(order=order).refused
    order.refresh_from_db()
    assert order.state == "reserved"


@inside_shop
def test_a_payment_is_authorized_once_and_refunded_once():
    from shop.orders.services import close
    from shop.orders.states import State
    from shop.payments.services import authorize, refund

    order = confirmed_order((new_product(), 1))
    assert authorize(order.pk, 0).pk == authorize(order.pk, 1).pk
    assert refund(order.pk) == 0, "an order that stands is not refunded"
    close(order.pk, State.CANCELLED, "")
    assert [refund(order.pk), refund(order.pk)] == [order.total_minor, 0]


@inside_shop
def test_payouts_share_an_order_among_its_suppliers_once():
    from shop.payouts.services import create

    first, second = new_product(price_minor=1_000), new_product(price_minor=2_000)
    third = new_product(price_minor=500, supplier=first.supplier)
    order = confirmed_order((first, 1), (second, 2), (third, 2))
    payouts = create(order.pk)
    assert {payout.supplier_id: payout.amount_minor for payout in payouts} == {
        first.supplier_id: 1_700,
        second.supplier_id: 3_400,
    }
    assert create(order.pk) == []


@inside_shop
def test_a_payout_of_a_cancelled_order_is_void():
    from shop.orders.services import close
    from shop.orders.states import State
    from shop.payouts.services import create, send

    order = confirmed_order((new_product(), 1))
    (payout,) = create(order.pk)
    close(order.pk, State.CANCELLED, "")
    assert [send(payout.pk), send(payout.pk)] == ["void", "void"]


@inside_shop
def test_an_order_is_announced_once_and_a_mail_is_sent_once():
    from shop.notifications.services import Kind, announce, deliver, mark_failed

    order = confirmed_order((new_product(), 1))
    (notice,) = announce(order, Kind.CONFIRMED)
    assert [again.pk for again in announce(order, Kind.CONFIRMED)] == [notice.pk]
    assert [deliver(notice.pk, 1), deliver(notice.pk, 1)] == [True, False]
    assert announce(order, Kind.CONFIRMED) == []
    assert mark_failed(notice.pk, "too late") is False
    notice.refresh_from_db()
    assert (notice.state, notice.attempts) == ("sent", 2)


@inside_shop
def test_a_mail_to_nobody_is_refused_for_good_and_greylisting_is_not():
    from shop.chance import per_mille
    from shop.notifications.services import Kind, RecipientRefusedError, TryLaterError, announce, deliver

    greylisting = next(
        address
        for address in (f"{RUN}.{number}@example.net" for number in count())
        if per_mille("greylist", address) < 30
    )
    for address, problem in ((f"{RUN}@nowhere.invalid", RecipientRefusedError), (greylisting, TryLaterError)):
        order = new_order((new_product(), 1), customer=new_customer(email=address))
        (notice,) = announce(order, Kind.DELAYED)
        raised(problem, deliver, notice.pk, 0)
        notice.refresh_from_db()
        assert notice.state == "pending"


@inside_shop
def test_unpaid_orders_are_found_by_age():
    from datetime import timedelta

    from django.utils import timezone

    from shop.orders.models import Order
    from shop.orders.services import unpaid_since

    old, young, paid = new_order((new_product(), 1)), new_order((new_product(), 1)), confirmed_order((new_product(), 1))
    past = timezone.now() - timedelta(days=400)
    Order.objects.filter(pk__in=[old.pk, paid.pk]).update(placed_at=past)
    found = unpaid_since(timezone.now() - timedelta(days=300))
    assert old.pk in found
    assert not {young.pk, paid.pk} & set(found)


@inside_shop
def test_a_day_is_added_up_per_currency_and_again_with_the_same_result():
    from datetime import UTC, date, datetime

    from shop.orders.models import Order
    from shop.orders.services import close
    from shop.orders.states import State
    from shop.payments.models import Payment
    from shop.payments.services import refund
    from shop.reports.services import compute_day

    noon = datetime(2020, 2, 29, 12, tzinfo=UTC)
    kept = confirmed_order((new_product(price_minor=7_000), 1))
    gone = confirmed_order((new_product(price_minor=9_000, currency="NOK"), 1))
    close(gone.pk, State.CANCELLED, "")
    refund(gone.pk)
    Order.objects.filter(pk__in=[kept.pk, gone.pk]).update(placed_at=noon)
    Payment.objects.filter(order=gone).update(refunded_at=noon)
    for _ in range(2):
        totals = compute_day(date(2020, 2, 29))
        assert [
            (total.currency, total.placed, total.confirmed, total.revenue_minor, total.refunded_minor)
            for total in totals
        ] == [("EUR", 1, 1, 7_000, 0), ("NOK", 1, 0, 0, 9_000)]


@inside_shop
def test_only_a_suppliers_own_prices_change():
    from shop.catalog.feeds import Offer
    from shop.catalog.services import update_prices

    mine, foreign = new_product(price_minor=1_000), new_product(price_minor=1_000)
    offers = [Offer(mine.sku, 1_100, "EUR"), Offer(foreign.sku, 1, "EUR"), Offer("unknown", 5, "EUR")]
    assert update_prices(mine.supplier, offers) == 1
    assert update_prices(mine.supplier, offers) == 0
    mine.refresh_from_db()
    foreign.refresh_from_db()
    assert (mine.price_minor, foreign.price_minor) == (1_100, 1_000)
