//! What of an adoption stands in the agreed record of changes, as its reason: what whoever takes over from the one
//! that adopted must know to go on watching it.

use std::fmt;

/// What was adopted, and what it is compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct AdoptedRecord {
    /// Of the trial.
    pub number: u64,
    /// Who ran that.
    pub node: String,
    /// What it came to.
    pub score: f64,
    /// What was in force before, of what was searched.
    pub before: Vec<(String, f64)>,
    /// What that earned; none, if that was not known.
    pub live: Option<f64>,
}

/// What it begins with.
const ADOPTED: &str = "adopted: trial ";
/// What stands before parameters.
const INSTEAD_OF: &str = "; instead of ";
/// What stands before the live score.
const LIVE: &str = "; live score before ";

impl fmt::Display for AdoptedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, node, score, before, live } = self;
        // With as many digits as it takes to be put back to the bit.
        let before: Vec<String> =
            before.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let before = before.join(", ");
        write!(f, "{ADOPTED}{number} of {node}, score {score:.4}{INSTEAD_OF}{before}")?;
        live.map_or(Ok(()), |live| write!(f, "{LIVE}{live:.4}"))
    }
}

impl AdoptedRecord {
    /// What the reason of a change says; none, if it was another reason, or not all of it is there.
    pub fn parse(why: &str) -> Option<Self> {
        let rest = why.strip_prefix(ADOPTED)?;
        let (trial, rest) = rest.split_once(INSTEAD_OF)?;
        let (trial, score) = trial.split_once(", score ")?;
        let (number, node) = trial.split_once(" of ")?;
        let (before, live) = match rest.split_once(LIVE) {
            Some((before, live)) => (before, Some(live.parse().ok()?)),
            None => (rest, None),
        };
        let parameter = |text: &str| {
            let (name, value) = text.split_once('=')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Some(Self {
            number: number.parse().ok()?,
            node: node.to_owned(),
            score: score.parse().ok()?,
            before: before.split(", ").map(parameter).collect::<Option<_>>()?,
            live,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_out_as_it_went_in() {
        let record = AdoptedRecord {
            number: 17,
            node: "calc-1".into(),
            score: 0.25,
            before: vec![("fast".into(), 12.0), ("width".into(), 0.1 + 0.2)],
            live: Some(-0.5),
        };
        let text = record.to_string();
        assert_eq!(
            text,
            "adopted: trial 17 of calc-1, score 0.2500; instead of fast=12, width=0.30000000000000004; \
             live score before -0.5000"
        );
        assert_eq!(AdoptedRecord::parse(&text), Some(record.clone()));
        let unknown = AdoptedRecord { live: None, ..record };
        assert_eq!(AdoptedRecord::parse(&unknown.to_string()), Some(unknown));
    }

    #[test]
    fn other_reasons_are_none() {
        for why in [
            "",
            "a test",
            "taken back: live score 0.1000, before 0.3000",
            "adopted: trial 17 of b, score 0.5000",
            "adopted: trial 17 of b, score 0.5000; instead of fast=x",
            "adopted: trial 17 of b, score 0.5000; instead of fast=1; live score before",
        ] {
            assert_eq!(AdoptedRecord::parse(why), None, "{why}");
        }
    }
}
