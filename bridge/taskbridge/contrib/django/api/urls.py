"""Where the HTTP API is, below the place that the project mounts it at."""

from django.urls import path, re_path

from taskbridge.contrib.django.api import views

app_name = "taskbridge-api"
urlpatterns = [
    path("openapi.json", views.openapi),
    path("cutovers", views.cutovers),
    path("cutovers/<str:service>", views.cutover),
    path("cutovers/<str:service>/transition", views.transition),
    path("cutovers/<str:service>/audit", views.audit),
    re_path("", views.nowhere),
]
