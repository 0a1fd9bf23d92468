//! Who takes part, and how they take turns.

use crate::queue::{Mode, Queue};

/// A library in one mode, with what a workload does for it.
pub struct Contestant<F> {
    pub library: &'static str,
    pub mode: Mode,
    pub run: F,
}

impl<F> Contestant<F> {
    pub fn new<Q: Queue>(run: F) -> Contestant<F> {
        Contestant { library: Q::LIBRARY, mode: Q::MODE, run }
    }

    /// As in `raw level`.
    pub fn name(&self) -> String {
        let mode = match self.mode {
            Mode::Level => "level",
            Mode::Edge => "edge",
            Mode::OneShot => "one-shot",
        };
        format!("{} {}", self.library, mode)
    }
}

/// The generic function `$run` for each library in each mode, as function pointers of type `$type`.
#[macro_export]
macro_rules! contestants {
    ($run:ident as $type:ty) => {
        $crate::contestants!($run as $type; for
            $crate::queue::raw::Raw<{ $crate::queue::LEVEL }>,
            $crate::queue::raw::Raw<{ $crate::queue::EDGE }>,
            $crate::queue::raw::Raw<{ $crate::queue::ONE_SHOT }>,
            $crate::queue::minimio::Minimio<{ $crate::queue::LEVEL }>,
            $crate::queue::minimio::Minimio<{ $crate::queue::EDGE }>,
            $crate::queue::minimio::Minimio<{ $crate::queue::ONE_SHOT }>,
            $crate::queue::mio::Mio,
            $crate::queue::polling::Polling<{ $crate::queue::LEVEL }>,
            $crate::queue::polling::Polling<{ $crate::queue::ONE_SHOT }>
        )
    };
    // Where the mode makes no difference: each library once.
    ($run:ident as $type:ty, any mode) => {
        $crate::contestants!($run as $type; for
            $crate::queue::raw::Raw<{ $crate::queue::EDGE }>,
            $crate::queue::minimio::Minimio<{ $crate::queue::EDGE }>,
            $crate::queue::mio::Mio,
            $crate::queue::polling::Polling<{ $crate::queue::EDGE }>
        )
    };
    ($run:ident as $type:ty; for $($queue:ty),*) => {
        vec![$($crate::contestants::Contestant::new::<$queue>($run::<$queue> as $type)),*]
    };
}

/// What one contestant needed, round by round.
pub struct Samples {
    pub contestant: String,
    pub values: Vec<f64>,
    /// To `raw` in the same mode, in the same round.
    pub ratios: Vec<f64>,
}

/// Lets everybody run once in each round, each time in another order, so that what disturbs the machine disturbs all alike.
pub fn take_turns<F>(
    contestants: &mut [Contestant<F>],
    rounds: usize,
    mut run: impl FnMut(&mut F) -> f64,
) -> Vec<Samples> {
    let n = contestants.len();
    let mut values = vec![Vec::new(); n];
    // The first round warms up the caches and is not counted.
    for round in 0..=rounds {
        for turn in 0..n {
            let who = (turn + round) % n;
            let value = run(&mut contestants[who].run);
            if round > 0 {
                values[who].push(value);
            }
        }
    }
    let measure_of = |mode| {
        let raw = |c: &Contestant<F>| c.library == "raw" && c.mode == mode;
        contestants.iter().position(raw).expect("raw takes part in every mode")
    };
    contestants
        .iter()
        .enumerate()
        .map(|(i, contestant)| {
            let raw = &values[measure_of(contestant.mode)];
            Samples {
                contestant: contestant.name(),
                values: values[i].clone(),
                ratios: values[i].iter().zip(raw).map(|(a, b)| a / b).collect(),
            }
        })
        .collect()
}
