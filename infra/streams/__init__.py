"""Streams in Kafka: producers, consumers, transactions, shard limits. The only importer of kafka."""
