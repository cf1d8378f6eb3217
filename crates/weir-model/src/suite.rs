//! One suite per store trait, run by every implementation.
