//! The store's share of the budget.

use weir_model::{Budget, BudgetExceeded, Reservation};

/// Memory taken, and memory that is used although the budget had none left for it: slack of buffers,
/// heads of segments. It is paid back before anything is given back.
pub(crate) struct Held {
    taken: Reservation,
    owed_bytes: u64,
}

impl Held {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self { taken: budget.try_reserve(0).expect("nothing fits into any budget"), owed_bytes: 0 }
    }

    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), BudgetExceeded> {
        self.taken.grow(self.owed_bytes + bytes)?;
        self.owed_bytes = 0;
        Ok(())
    }

    /// For what is there already.
    pub(crate) fn grow_or_owe(&mut self, bytes: u64) {
        if self.grow(bytes).is_err() {
            self.owed_bytes += bytes;
        }
    }

    pub(crate) fn shrink(&mut self, bytes: u64) {
        let paid = bytes.min(self.owed_bytes);
        self.owed_bytes -= paid;
        self.taken.shrink(bytes - paid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_paid_before_anything_is_given_back() {
        let budget = Budget::root(100);
        let mut held = Held::new(&budget);
        held.grow(90).unwrap();
        held.grow_or_owe(30);
        assert_eq!(budget.used_bytes(), 90);
        assert!(held.grow(1).is_err());
        held.shrink(50);
        assert_eq!(budget.used_bytes(), 70, "30 were owed");
        held.grow(30).unwrap();
    }
}
