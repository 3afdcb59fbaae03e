"""An HTTP interface to transitions, for programs: `include("taskbridge.contrib.django.api.urls")`."""
