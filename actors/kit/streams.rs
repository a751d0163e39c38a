//! Where the streams of a stage stand, for whoever looks.

use tickwright_core::stream::{Block, InflowStanding, Merge, Outflow, OutflowStanding};

/// Where the streams of one stage stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageStreams {
    /// What it takes in, in the order of its producers.
    pub inputs: Vec<InflowStanding>,
    /// What it gives out, in the order of its consumers.
    pub outputs: Vec<OutflowStanding>,
}

impl StageStreams {
    /// Those that a stage takes in.
    pub fn of_inputs<B: Block>(merge: &Merge<B>) -> Vec<InflowStanding> {
        (0..merge.len()).map(|input| merge.standing(input)).collect()
    }

    /// A stage with one output and no inputs.
    pub fn of_source<B: Block>(flow: &Outflow<B>) -> Self {
        Self { inputs: Vec::new(), outputs: vec![flow.standing()] }
    }
}
