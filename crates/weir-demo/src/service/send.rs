//! Sending records onwards, each under a producer span that ends when the broker has acknowledged it.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::error::DemoError;
use crate::propagate;
use crate::telemetry::{Telemetry, messaging, position};

/// Resolves when what a record led to is safe, or says why it is not.
pub(crate) type Ack = BoxFuture<'static, Result<(), String>>;

/// One record to send.
pub(crate) struct Outgoing<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub key: &'a str,
    pub payload: &'a [u8],
}

#[derive(Clone)]
pub(crate) struct Sender {
    producer: Arc<FutureProducer>,
    telemetry: Telemetry,
}

impl Sender {
    pub fn new(broker: &str, client_id: &str, telemetry: Telemetry) -> Result<Self, DemoError> {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", broker)
            .set("client.id", client_id)
            .set("enable.idempotence", "true")
            // A few events travel together: cheaper by half than one by one, at a price of 5 ms a hop.
            .set("linger.ms", "5")
            .set("message.timeout.ms", "30000")
            .set("queue.buffering.max.messages", "50000")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .create()
            .map_err(DemoError::kafka("make a Kafka producer"))?;
        Ok(Self { producer: Arc::new(producer), telemetry })
    }

    /// Queues the record. `attributes` are added to the span.
    pub fn send(&self, record: Outgoing<'_>, parent: &Context, attributes: Vec<KeyValue>) -> Ack {
        let mut all = messaging(record.topic, "send");
        all.push(KeyValue::new("messaging.operation.name", "send"));
        all.extend(attributes);
        let context = self.telemetry.start_span(format!("send {}", record.topic), SpanKind::Producer, all, parent);
        let outgoing = FutureRecord::to(record.topic)
            .partition(record.partition)
            .key(record.key)
            .payload(record.payload)
            .headers(propagate::inject(&context));
        let queued = self.producer.send_result(outgoing).map_err(|(error, _)| error);
        async move {
            let result = match queued {
                Ok(delivery) => delivery.await.map_err(|_| "the producer is gone".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            let span = context.span();
            let result = match result {
                Ok(Ok(delivery)) => {
                    for attribute in position(delivery.partition, delivery.offset) {
                        span.set_attribute(attribute);
                    }
                    Ok(())
                }
                Ok(Err((error, _))) => Err(error.to_string()),
                Err(text) => Err(text),
            };
            if let Err(text) = &result {
                span.set_status(Status::error(text.clone()));
            }
            span.end();
            result
        }
        .boxed()
    }
}
