//! Two contenders in turn, so that whatever else the machine does meets both.

use std::time::Duration;

use anyhow::Result;

/// How many times as long as the other one contender took, in each round.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// In ascending order.
    ratios: Vec<f64>,
}

impl Comparison {
    /// Lets both run once unmeasured, then in each of `rounds` (an odd number), taking turns at being first.
    ///
    /// # Errors
    ///
    /// What a contender fails with.
    pub fn run(
        rounds: usize,
        mut ours: impl FnMut() -> Result<Duration>,
        mut theirs: impl FnMut() -> Result<Duration>,
    ) -> Result<Self> {
        ours()?;
        theirs()?;
        let mut ratios = Vec::with_capacity(rounds);
        for round in 0..rounds {
            let (ours, theirs) = if round % 2 == 0 {
                let ours = ours()?;
                (ours, theirs()?)
            } else {
                let theirs = theirs()?;
                (ours()?, theirs)
            };
            ratios.push(ours.as_secs_f64() / theirs.as_secs_f64());
        }
        ratios.sort_by(f64::total_cmp);
        Ok(Self { ratios })
    }

    /// The same the other way round, as for throughputs.
    #[must_use]
    pub fn inverted(&self) -> Self {
        Self { ratios: self.ratios.iter().rev().map(|ratio| 1.0 / ratio).collect() }
    }

    /// How many rounds there were.
    pub const fn rounds(&self) -> usize {
        self.ratios.len()
    }

    /// The ratio of the round in the middle.
    pub fn median(&self) -> f64 {
        self.ratios[self.ratios.len() / 2]
    }

    /// Between these is the middle half of the rounds.
    pub fn quartiles(&self) -> (f64, f64) {
        (self.ratios[self.ratios.len() / 4], self.ratios[self.ratios.len() * 3 / 4])
    }
}
