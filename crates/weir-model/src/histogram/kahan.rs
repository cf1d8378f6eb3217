//! Sums that carry what rounding lost.

/// A sum that carries what rounding lost (Kahan-Babuška, as Neumaier improved it).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Kahan {
    pub sum: f64,
    pub lost: f64,
}

impl Kahan {
    pub fn add(&mut self, v: f64) {
        let total = self.sum + v;
        if total.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= v.abs() {
            self.lost += (self.sum - total) + v;
        } else {
            self.lost += (v - total) + self.sum;
        }
        self.sum = total;
    }
    pub fn total(self) -> f64 {
        self.sum + self.lost
    }
}

/// What a histogram counts in: plain floats, or floats that carry their rounding errors.
pub trait Number: Copy + Default {
    fn plus(&mut self, v: f64);
    fn merge(&mut self, other: Self);
    fn get(self) -> f64;
    fn times(&mut self, factor: f64);
}

impl Number for f64 {
    fn plus(&mut self, v: f64) {
        *self += v;
    }
    fn merge(&mut self, other: Self) {
        *self += other;
    }
    fn get(self) -> f64 {
        self
    }
    fn times(&mut self, factor: f64) {
        *self *= factor;
    }
}

impl Number for Kahan {
    fn plus(&mut self, v: f64) {
        self.add(v);
    }
    fn merge(&mut self, other: Self) {
        self.add(other.sum);
        self.add(other.lost);
    }
    fn get(self) -> f64 {
        self.total()
    }
    fn times(&mut self, factor: f64) {
        self.sum *= factor;
        self.lost *= factor;
    }
}
