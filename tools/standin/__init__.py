"""
Does to a real Kafka, and a real Connect, what Strimzi's operators would do with rendered resources.

For tests, where Strimzi's own operator cannot run: topics, users, rights and connectors are those of the chart, and
passwords come out as the Secrets that Strimzi would write.
"""
