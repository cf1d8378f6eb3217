//! TraceQL: parse, plan, evaluate over read traits.
