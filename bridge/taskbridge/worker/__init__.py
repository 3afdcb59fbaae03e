"""
The consumer runtime: one supervisor that owns the consumer, and executor processes that run tasks.

`tracker` knows which offsets are finished and `offsets` our partitions, `slots` is the memory that supervisor and
executor share, `channel` the messages between them, `buffer` holds what waits and `batching` decides how much an
executor is given, `executors` starts and ends the processes, `supervisor` is the loop. `tally` counts, `workload` says
how busy the worker is, and `lookout` makes the `snapshot` that others see. None of them knows Celery or the Kafka
client.
"""
