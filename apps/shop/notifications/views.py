"""The HTTP API of notifications."""

from django.http import HttpRequest, HttpResponse, JsonResponse

from shop.notifications.workflow import schedule_newsletter
from shop.web.api import BadRequestError, body, json_view, only, text, whole


@json_view("POST")
def newsletters(request: HttpRequest) -> HttpResponse:
    """Have a newsletter sent: 202."""
    content = body(request)
    only(content, "slug", "subject", "body", "audience", "wait")
    slug = text(content, "slug", 60)
    if not slug.replace("-", "").replace("_", "").isalnum() or not slug.isascii():
        raise BadRequestError("slug must consist of letters, digits, - and _.")
    newsletter = schedule_newsletter(
        slug,
        text(content, "subject", 150),
        text(content, "body", 20_000),
        whole(content, "audience", 100_000),
        whole(content, "wait", 86_400) if "wait" in content else 0,
    )
    return JsonResponse({"slug": newsletter.slug}, status=202)
