"""The bridge's HTTP API, as its client sees it."""
