//! Draws of whole numbers from a seed (`SplitMix64`, Steele, Lea and Flood 2014): the same on every machine.

/// A stream of draws.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Return the stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Return 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Return a number from 0 to `limit` - 1; `limit` is at least 1 and far below 2^64, so that no value is favoured.
    pub fn below(&mut self, limit: u64) -> u64 {
        u64::try_from((u128::from(self.bits()) * u128::from(limit)) >> 64).expect("the upper half of 128 bits")
    }

    /// Return a place in something of this length, which is at least 1.
    pub fn place(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    /// Return true once in so many draws.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Return a place in a list of running sums, drawn by weight.
    pub fn weighted(&mut self, sums: &[u64]) -> usize {
        let drawn = self.below(*sums.last().expect("there are weights"));
        sums.partition_point(|sum| *sum <= drawn)
    }
}
