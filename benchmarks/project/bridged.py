"""The same application with the bridge."""

import taskbridge
from benchmarks.project.apps import application

app = application("bridged")

taskbridge.install(app)
