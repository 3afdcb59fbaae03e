"""
Reading a project: its tasks, what they use of Celery, and what moving them means.

Facts come from the source alone, or from a Celery app's registry as well; nothing of the project is executed here.
"""

from taskbridge.scan.behaviours import BEHAVIOURS, Behaviour, Level
from taskbridge.scan.definitions import tasks
from taskbridge.scan.document import SCHEMA, document
from taskbridge.scan.facts import App, Task
from taskbridge.scan.judge import Finding, Judged, Result, judge
from taskbridge.scan.modules import Project, read
from taskbridge.scan.survey import survey

__all__ = [
    "BEHAVIOURS",
    "SCHEMA",
    "App",
    "Behaviour",
    "Finding",
    "Judged",
    "Level",
    "Project",
    "Result",
    "Task",
    "document",
    "judge",
    "read",
    "survey",
    "tasks",
]
