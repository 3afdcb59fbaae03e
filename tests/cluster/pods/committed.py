"""Prints where the group stands in each partition, and where the partitions end."""

from __future__ import annotations

import json

from client import CLIENT, PARTITIONS, TOPIC
from confluent_kafka import Consumer, TopicPartition

consumer = Consumer({**CLIENT, "group.id": TOPIC})
places = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
committed = [max(0, one.offset) for one in consumer.committed(places, timeout=60)]
end = [consumer.get_watermark_offsets(one, timeout=60)[1] for one in places]
consumer.close()
print(json.dumps({"committed": committed, "end": end}))
