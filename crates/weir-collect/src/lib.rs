//! Scraping: targets from a Prometheus configuration, relabelling, staleness.
