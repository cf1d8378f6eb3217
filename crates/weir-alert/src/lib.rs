//! Routing, grouping and notification.
