//! Decoders and limits: remote write, OTLP, Loki push, exposition text; entities and accounting at ingest.
