"""
Every way in which Celery sends a task, as tables: what is given to it, and how many tasks run because of it.

Nothing here needs the project: `w` are its tasks (`bridged.witnesses`), `mark` is what they find their path by.
"""

from . import calls, canvas, options, retries  # noqa: F401 - each adds its own
from .table import PATHS, Path

__all__ = ["PATHS", "Path"]
