"""What the operator answers over HTTP: its health, its metrics, and what its decisions are made of."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from lagscaler.controller.scaling import Scaling
from lagscaler.metrics import Metrics
from lagscaler.policy.document import sample_document, spec_document, state_document
from lagscaler.resources.reading import Key

STALLED = 30.0
"""Seconds without a turn of the loop that looks who is due, after which the process is not alive."""


def application(
    scaling: Scaling, metrics: Metrics, ready: Callable[[], str], clock: Callable[[], float]
) -> web.Application:
    """
    Return the application; `ready` returns why the operator is not ready, or nothing.

    Alive means that the loops turn, and not that Kafka or the Kubernetes API answers: a restart would not mend those.
    """

    async def healthz(_: web.Request) -> web.Response:
        idle = clock() - scaling.alive_at
        if idle > STALLED:
            return web.Response(status=503, text=f"nothing was looked at for {idle:.0f} s\n")
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        missing = ready()
        return web.Response(status=503 if missing else 200, text=f"{missing or 'ok'}\n")

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(
            body=metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def history(request: web.Request) -> web.Response:
        found = scaling.recall(Key(request.match_info["namespace"], request.match_info["name"]))
        if found is None:
            return web.json_response({"error": "there is no such KafkaConsumer"}, status=404)
        spec, samples, state = found
        return web.json_response(
            {
                "spec": spec_document(spec),
                "state": state_document(state, exact=True),
                "history": [sample_document(sample) for sample in samples],
            }
        )

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", exposition)
    app.router.add_get("/consumers/{namespace}/{name}/history", history)
    return app
