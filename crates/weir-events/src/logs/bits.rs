//! A set of rows.

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
    n: usize,
}

impl Bits {
    pub(crate) fn none(n: usize) -> Self {
        Self { words: vec![0; n.div_ceil(64)], n }
    }
    pub(crate) fn set(&mut self, i: usize) {
        self.words[i / 64] |= 1 << (i % 64);
    }
    pub(crate) fn and(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a &= b);
    }
    pub(crate) fn and_not(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a &= !b);
    }
    pub(crate) fn or(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a |= b);
    }
    pub(crate) fn invert(&mut self) {
        self.words.iter_mut().for_each(|w| *w = !*w);
        if !self.n.is_multiple_of(64)
            && let Some(last) = self.words.last_mut()
        {
            *last &= (1 << (self.n % 64)) - 1;
        }
    }
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|w| *w == 0)
    }
    pub(crate) fn iter_in(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = usize> + '_ {
        let (first, last) = (range.start / 64, range.end.div_ceil(64).min(self.words.len()));
        (first..last.max(first))
            .flat_map(move |w| {
                let mut word = self.words[w];
                std::iter::from_fn(move || {
                    let bit = word.trailing_zeros() as usize;
                    (bit < 64).then(|| {
                        word &= word - 1;
                        w * 64 + bit
                    })
                })
            })
            .filter(move |i| range.contains(i))
    }
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.iter_in(0..self.n)
    }
}

/// Rows out of all of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    None,
    All,
    Some(Bits),
}

impl Rows {
    pub(crate) fn of(bits: Bits) -> Self {
        if bits.is_empty() { Self::None } else { Self::Some(bits) }
    }
    pub(crate) fn where_true(of: &[bool]) -> Self {
        if of.iter().all(|t| *t) {
            return Self::All;
        }
        let mut bits = Bits::none(of.len());
        of.iter().enumerate().filter(|(_, t)| **t).for_each(|(i, _)| bits.set(i));
        Self::of(bits)
    }
    pub(crate) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::None, rows) | (rows, Self::None) => rows,
            (Self::Some(mut a), Self::Some(b)) => {
                a.or(&b);
                Self::Some(a)
            }
        }
    }
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, _) | (_, Self::None) => Self::None,
            (Self::All, rows) | (rows, Self::All) => rows,
            (Self::Some(mut a), Self::Some(b)) => {
                a.and(&b);
                Self::of(a)
            }
        }
    }
    pub(crate) fn and_not(self, other: Self) -> Self {
        match (self, other) {
            (rows, Self::None) => rows,
            (_, Self::All) | (Self::None, _) => Self::None,
            (Self::All, Self::Some(mut b)) => {
                b.invert();
                Self::of(b)
            }
            (Self::Some(mut a), Self::Some(b)) => {
                a.and_not(&b);
                Self::of(a)
            }
        }
    }
}
