//! LogQL: parse, plan, evaluate over read traits.
