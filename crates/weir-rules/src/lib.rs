//! Recording and alerting rules, evaluated on arrival and on the interval grid.
