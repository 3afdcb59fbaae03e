"""
What nothing can beat: messages that lie in memory, decoded, and given to Celery's own tracer.

`python -m benchmarks.project.bare RECORDS` goes on until it is ended. There is no broker, no supervisor, no offset and
no observation; the application is prepared as in a worker's process, so that Django's hooks run around every task.
"""

from __future__ import annotations

import json
import marshal
import sys
from pathlib import Path
from typing import Any

from celery.concurrency.prefork import process_initializer

from taskbridge.adapters.celery.zygote import load


def run_for_ever(tasks: Any, messages: list[tuple[bytes, bytes, bytes]]) -> None:
    """Run the messages, given as body, headers and properties, again and again."""
    while True:
        for body, raw_headers, raw_properties in messages:
            headers = json.loads(raw_headers)
            properties = json.loads(raw_properties)
            args, kwargs, embed = json.loads(body)
            request = {
                **headers,
                "properties": properties,
                "delivery_info": properties["delivery_info"],
                "args": args,
                "kwargs": kwargs,
                "is_eager": False,
                **embed,
            }
            tasks[headers["task"]].__trace__(headers["id"], args, kwargs, request)


def main() -> None:
    """Load the application without the bridge and run the messages in the file that is named."""
    messages = marshal.loads(Path(sys.argv[1]).read_bytes())  # noqa: S302 - written by this benchmark
    app = load("benchmarks.project.plain")
    process_initializer(app, "bare@localhost")
    run_for_ever(app._tasks, messages)


if __name__ == "__main__":
    main()
