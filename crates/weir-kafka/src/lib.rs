//! Consumer lag in messages and seconds, polled from a Kafka cluster.
