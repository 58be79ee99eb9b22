//! Sums of amounts that no frame can make overflow.

use std::fmt::{self, Write};

/// A sum of amounts. Each is below 2^192, and a frame has fewer than 2^24 events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wide {
    pub(super) high: i128,
    low: u128,
}

impl Wide {
    #[inline]
    pub(super) fn of(value: i128) -> Self {
        Self { high: value >> 127, low: value.cast_unsigned() }
    }

    /// Return a product of two numbers of 128 and 64 bits.
    #[inline]
    pub(super) fn product(a: u128, b: u64) -> Self {
        if let Some(low) = a.checked_mul(u128::from(b)) {
            return Self { high: 0, low };
        }
        let low_half = (a & u128::from(u64::MAX)) * u128::from(b);
        let high_half = (a >> 64) * u128::from(b);
        let (low, carry) = low_half.overflowing_add(high_half << 64);
        Self { high: (high_half >> 64).cast_signed() + i128::from(carry), low }
    }

    #[inline]
    pub(super) fn add(&mut self, other: Self) {
        let (low, carry) = self.low.overflowing_add(other.low);
        self.low = low;
        self.high += other.high + i128::from(carry);
    }

    #[inline]
    pub(super) fn negated(self) -> Self {
        let (low, is_zero) = (!self.low).overflowing_add(1);
        Self { high: !self.high + i128::from(is_zero), low }
    }

    /// Return the number where it fits.
    #[inline]
    pub(super) fn narrow(self) -> Option<i128> {
        let value = self.low.cast_signed();
        (self.high == value >> 127).then_some(value)
    }
}

impl fmt::Display for Wide {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CHUNK: u128 = 1_000_000_000_000_000_000;
        let is_negative = self.high < 0;
        let positive = if is_negative { self.negated() } else { *self };
        let high = positive.high.cast_unsigned();
        let mut limbs = [high >> 64, high, positive.low >> 64, positive.low].map(|limb| limb & u128::from(u64::MAX));
        let mut chunks = Vec::new();
        while chunks.is_empty() || limbs != [0; 4] {
            let mut rest = 0;
            for limb in &mut limbs {
                let value = rest << 64 | *limb;
                (*limb, rest) = (value / CHUNK, value % CHUNK);
            }
            chunks.push(rest);
        }
        let mut digits = chunks.pop().unwrap_or(0).to_string();
        for chunk in chunks.iter().rev() {
            let _ = write!(digits, "{chunk:018}");
        }
        formatter.pad_integral(!is_negative, "", &digits)
    }
}

#[cfg(test)]
mod tests {
    use super::Wide;

    const MAX: u64 = u64::MAX;

    #[test]
    fn the_largest_product_is_exact() {
        let all = Wide::product(u128::from(MAX) * u128::from(MAX), MAX);
        assert_eq!(all.to_string(), "6277101735386680762814942322444851025767571854389858533375");
        assert_eq!(all.negated().to_string(), "-6277101735386680762814942322444851025767571854389858533375");
        assert_eq!(all.narrow(), None);
        let mut none = all;
        none.add(all.negated());
        assert_eq!((none, none.narrow(), none.to_string().as_str()), (Wide::default(), Some(0), "0"));
    }

    #[test]
    fn narrow_numbers_come_back() {
        for value in
            [0, 1, -1, i128::MAX, i128::MIN, i128::from(MAX), -i128::from(MAX), 10_i128.pow(18), -(10_i128.pow(36))]
        {
            let wide = Wide::of(value);
            assert_eq!((wide.narrow(), wide.to_string()), (Some(value), value.to_string()));
            if value != i128::MIN {
                assert_eq!(wide.negated().narrow(), Some(-value));
            }
        }
        let mut beyond = Wide::of(i128::MAX);
        beyond.add(Wide::of(1));
        assert_eq!(beyond.narrow(), None);
        beyond.add(Wide::of(-1));
        assert_eq!(beyond.narrow(), Some(i128::MAX));
    }
}
