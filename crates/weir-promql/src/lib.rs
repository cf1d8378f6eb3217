//! PromQL: parse, plan, evaluate over read traits.
