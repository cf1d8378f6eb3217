//! Cardinality under control: budgets of series per metric and tenant, and who uses them up.
//!
//! Nothing here is on the way of series that are known. A new one is held against the store's own counts
//! ([`SeriesCensus`](weir_model::SeriesCensus)), and only where a budget says more than `warn`.

mod config;
mod fold;
mod gate;
mod growth;
mod survey;

pub use config::{Action, CardinalityConfig, CardinalityError, SeriesBudget};
pub use gate::Gate;
pub use growth::Grown;
pub use survey::{Culprit, Standing};
