"""
What programs that watch the bridge are told over HTTP: health, readiness, metrics.

`families` names every metric, `samples` turns what workers, relays and dispatchers know into values of them,
`exposition` writes these in Prometheus' format, `sharing` brings the counts of several processes together, and `server`
answers. Nothing here asks Kafka anything.
"""
