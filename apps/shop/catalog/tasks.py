"""Background work of the catalogue: crawlers, slow on purpose."""

from celery import group, shared_task
from celery.result import AsyncResult

from shop.catalog import services
from shop.catalog.feeds import FeedUnavailableError, MalformedFeedError


@shared_task(
    rate_limit="10/s",
    autoretry_for=(FeedUnavailableError,),
    retry_backoff=2,
    retry_backoff_max=60,
    max_retries=4,
    throws=(MalformedFeedError,),
    soft_time_limit=45,
    time_limit=60,
)
def crawl_feed(supplier_id: int) -> int:
    """Read one supplier's price feed."""
    return services.crawl(supplier_id)


@shared_task
def note_problem(failed_task_id: str, *, supplier_id: int) -> None:
    """Note why a supplier's feed could not be read."""
    services.note_problem(supplier_id, str(AsyncResult(failed_task_id).result or "unknown"))


@shared_task(ignore_result=True)
def crawl_feeds() -> None:
    """Have every supplier's feed read, each by a task of its own."""
    suppliers = services.suppliers_with_feeds()
    if suppliers:
        group(
            crawl_feed.si(supplier).on_error(note_problem.s(supplier_id=supplier)) for supplier in suppliers
        ).apply_async()
