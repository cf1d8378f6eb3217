//! The demo: broker, pipeline, faults and drill. Speaks to weir over public APIs only.
