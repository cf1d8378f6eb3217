//! Change detection, cause ranking, incidents, the service and topic graph.
