//! What may be tried: named numbers with bounds, and what must hold between them.
//!
//! Searching works in the unit cube: each dimension is mapped to [0, 1] so that equal steps mean equal
//! changes, of the value, of its logarithm, or of the place in a list.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Random;

/// A value for each dimension, in order.
pub type Point = Vec<f64>;

/// How often a point is drawn anew until the constraints hold.
const DRAWS_MAX: usize = 1_000;

/// What values one number may have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Domain {
    /// Whole numbers, both bounds among them.
    Integer(i64, i64),
    /// Whole numbers whose ratio matters and not their difference; bounds above 0.
    LogInteger(i64, i64),
    /// All numbers from the first to the second.
    Real(f64, f64),
    /// The same where ratios matter; bounds above 0.
    Log(f64, f64),
    /// One of these.
    Choice(Vec<f64>),
}

/// A number to choose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dimension {
    /// The parameter's name.
    pub name: String,
    /// What it may be.
    pub domain: Domain,
}

/// What must hold between two numbers: the first is below the second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// The smaller one's name.
    pub less: String,
    /// The larger one's name.
    pub than: String,
    /// Whether they may be equal.
    pub or_equal: bool,
}

/// All that may be tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Space {
    dimensions: Vec<Dimension>,
    constraints: Vec<Constraint>,
    /// The constraints by place.
    ordered: Vec<(usize, usize, bool)>,
}

/// Why a space makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpaceError {
    /// Nothing to choose.
    #[error("there is nothing to search: name at least one parameter")]
    Empty,
    /// A name twice.
    #[error("`{name}` is given twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// Bounds that hold nothing.
    #[error("`{name}`: {problem}")]
    Domain {
        /// Whose.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A constraint about a number that is not there.
    #[error("`{constraint}` names `{name}`, which is not searched")]
    Unknown {
        /// The constraint.
        constraint: String,
        /// The name.
        name: String,
    },
    /// Nothing keeps them.
    #[error("no point was found that keeps every constraint; widen the bounds")]
    Impossible,
}

impl Domain {
    /// The domain that a text such as `int 2..60`, `log-int 1..1000`, `real 0.5..4`, `log 0.1..10` or
    /// `one of 0, 60, 300` means.
    ///
    /// # Errors
    ///
    /// What would do.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            "write it as \"int 2..60\", \"log-int 1..1000\", \"real 0.5..4\", \"log 0.1..10\" or \"one of 0, 60\"".to_owned()
        };
        let text = text.trim();
        if let Some(list) = text.strip_prefix("one of ") {
            let values: Result<Vec<f64>, _> = list.split(',').map(|it| it.trim().parse()).collect();
            return Self::Choice(values.map_err(|_| wrong())?).checked();
        }
        let (kind, bounds) = text.split_once(' ').ok_or_else(wrong)?;
        let (low, high) = bounds.split_once("..").ok_or_else(wrong)?;
        let (low, high) = (low.trim(), high.trim());
        let whole = || Some((low.parse::<i64>().ok()?, high.parse::<i64>().ok()?));
        let real = || Some((low.parse::<f64>().ok()?, high.parse::<f64>().ok()?));
        let domain = match kind {
            "int" => whole().map(|(low, high)| Self::Integer(low, high)),
            "log-int" => whole().map(|(low, high)| Self::LogInteger(low, high)),
            "real" => real().map(|(low, high)| Self::Real(low, high)),
            "log" => real().map(|(low, high)| Self::Log(low, high)),
            _ => None,
        };
        domain.ok_or_else(wrong)?.checked()
    }

    fn checked(self) -> Result<Self, String> {
        let (low, high) = self.bounds();
        if !low.is_finite() || !high.is_finite() || low > high || low.abs().max(high.abs()) > 1e15 {
            return Err("the bounds must be numbers, the lower one first".to_owned());
        }
        if matches!(self, Self::Log(..) | Self::LogInteger(..)) && low <= 0.0 {
            return Err("where ratios matter, the bounds must be above 0".to_owned());
        }
        if let Self::Choice(values) = &self {
            let is_twice = (1..values.len()).any(|at| values[..at].contains(&values[at]));
            if values.is_empty() || is_twice || values.iter().any(|value| !value.is_finite()) {
                return Err("list one or more different numbers".to_owned());
            }
        }
        Ok(self)
    }

    fn bounds(&self) -> (f64, f64) {
        match self {
            Self::Integer(low, high) | Self::LogInteger(low, high) => (*low as f64, *high as f64),
            Self::Real(low, high) | Self::Log(low, high) => (*low, *high),
            Self::Choice(values) => {
                let fold = |by: fn(f64, f64) -> f64| values.iter().copied().reduce(by);
                (fold(f64::min).unwrap_or(0.0), fold(f64::max).unwrap_or(0.0))
            }
        }
    }

    /// How many values there are; none when they cannot be counted.
    pub fn count(&self) -> Option<u64> {
        match self {
            Self::Integer(low, high) | Self::LogInteger(low, high) => {
                Some(high.abs_diff(*low).saturating_add(1))
            }
            Self::Real(low, high) | Self::Log(low, high) => (low == high).then_some(1),
            Self::Choice(values) => Some(values.len() as u64),
        }
    }

    /// The value at `unit` of the way, from 0 to 1.
    pub fn at(&self, unit: f64) -> f64 {
        let unit = unit.clamp(0.0, 1.0);
        let (low, high) = self.bounds();
        let between = |low: f64, high: f64| low + (high - low) * unit;
        let value = match self {
            // Each whole number has an equal share.
            Self::Integer(..) => (low + ((high - low + 1.0) * unit).floor()).min(high),
            Self::LogInteger(..) => {
                let (low, high) = (libm::log(low - 0.5), libm::log(high + 0.5));
                libm::exp(between(low, high)).round()
            }
            Self::Real(..) => between(low, high),
            Self::Log(..) => libm::exp(between(libm::log(low), libm::log(high))),
            Self::Choice(values) => {
                let place = (unit * values.len() as f64).floor();
                values
                    .iter()
                    .copied()
                    .enumerate()
                    .find(|(at, _)| *at as f64 >= place)
                    .map_or_else(|| values.last().copied().unwrap_or(0.0), |(_, value)| value)
            }
        };
        if matches!(self, Self::Choice(_)) { value } else { value.clamp(low, high) }
    }

    /// Where `value` lies, from 0 to 1: the middle of its share where values can be counted.
    pub fn unit(&self, value: f64) -> f64 {
        let (low, high) = self.bounds();
        let share = |value: f64, low: f64, high: f64| {
            if high > low { ((value - low) / (high - low)).clamp(0.0, 1.0) } else { 0.5 }
        };
        match self {
            Self::Integer(..) => share(value + 0.5, low, high + 1.0),
            Self::LogInteger(..) => {
                share(libm::log(value.max(0.5)), libm::log(low - 0.5), libm::log(high + 0.5))
            }
            Self::Real(..) => share(value, low, high),
            Self::Log(..) => share(libm::log(value), libm::log(low), libm::log(high)),
            Self::Choice(values) => {
                let place = values.iter().position(|&it| it == value).unwrap_or(0);
                (place as f64 + 0.5) / values.len() as f64
            }
        }
    }

    /// Whether `value` may be tried.
    pub fn contains(&self, value: f64) -> bool {
        let (low, high) = self.bounds();
        match self {
            Self::Integer(..) | Self::LogInteger(..) => {
                value.fract() == 0.0 && (low..=high).contains(&value)
            }
            Self::Real(..) | Self::Log(..) => (low..=high).contains(&value),
            Self::Choice(values) => values.contains(&value),
        }
    }
}

impl Constraint {
    /// The constraint that `fast < slow` or `low <= high` means.
    ///
    /// # Errors
    ///
    /// What would do.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "write it as \"fast < slow\" or \"low <= high\"".to_owned();
        let (less, than) = text.split_once('<').ok_or_else(wrong)?;
        let (or_equal, than) = match than.strip_prefix('=') {
            Some(than) => (true, than),
            None => (false, than),
        };
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_')
        };
        let (less, than) = (less.trim(), than.trim());
        if !is_name(less) || !is_name(than) {
            return Err(wrong());
        }
        Ok(Self { less: less.to_owned(), than: than.to_owned(), or_equal })
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.or_equal { "<=" } else { "<" };
        write!(f, "{} {sign} {}", self.less, self.than)
    }
}

impl Space {
    /// The space of these dimensions under these constraints.
    ///
    /// # Errors
    ///
    /// [`SpaceError`], when nothing could be tried.
    pub fn new(
        dimensions: Vec<Dimension>,
        constraints: Vec<Constraint>,
    ) -> Result<Self, SpaceError> {
        if dimensions.is_empty() {
            return Err(SpaceError::Empty);
        }
        for (at, dimension) in dimensions.iter().enumerate() {
            let name = dimension.name.clone();
            if dimensions[..at].iter().any(|other| other.name == name) {
                return Err(SpaceError::Twice { name });
            }
            if let Err(problem) = dimension.domain.clone().checked() {
                return Err(SpaceError::Domain { name, problem });
            }
        }
        let mut ordered = Vec::new();
        for constraint in &constraints {
            let place = |name: &str| {
                dimensions.iter().position(|dimension| dimension.name == name).ok_or_else(|| {
                    let constraint = constraint.to_string();
                    SpaceError::Unknown { constraint, name: name.to_owned() }
                })
            };
            ordered.push((place(&constraint.less)?, place(&constraint.than)?, constraint.or_equal));
        }
        let space = Self { dimensions, constraints, ordered };
        match space.draw(&mut Random::new(0, 0)) {
            Some(_) => Ok(space),
            None => Err(SpaceError::Impossible),
        }
    }

    /// The dimensions.
    pub fn dimensions(&self) -> &[Dimension] {
        &self.dimensions
    }

    /// The constraints.
    pub fn constraints(&self) -> &[Constraint] {
        &self.constraints
    }

    /// Whether `point` may be tried.
    pub fn contains(&self, point: &[f64]) -> bool {
        point.len() == self.dimensions.len()
            && self.dimensions.iter().zip(point).all(|(it, &value)| it.domain.contains(value))
            && self.keeps(point)
    }

    fn keeps(&self, point: &[f64]) -> bool {
        self.ordered.iter().all(|&(less, than, or_equal)| {
            point[less] < point[than] || (or_equal && point[less] == point[than])
        })
    }

    /// The point at `units` of the way in each dimension, if it keeps the constraints.
    pub fn at(&self, units: &[f64]) -> Option<Point> {
        let value = |(dimension, &unit): (&Dimension, &f64)| dimension.domain.at(unit);
        let point: Point = self.dimensions.iter().zip(units).map(value).collect();
        self.keeps(&point).then_some(point)
    }

    /// Where `point` lies in the unit cube.
    pub fn units(&self, point: &[f64]) -> Vec<f64> {
        let unit = |(dimension, &value): (&Dimension, &f64)| dimension.domain.unit(value);
        self.dimensions.iter().zip(point).map(unit).collect()
    }

    /// A point drawn evenly; none when the constraints leave next to nothing.
    pub fn draw(&self, random: &mut Random) -> Option<Point> {
        (0..DRAWS_MAX).find_map(|_| {
            let units: Vec<f64> = self.dimensions.iter().map(|_| random.unit()).collect();
            self.at(&units)
        })
    }

    /// The parameters that `point` means, by name.
    pub fn parameters(&self, point: &[f64]) -> Vec<(String, f64)> {
        let named = |(dimension, &value): (&Dimension, &f64)| (dimension.name.clone(), value);
        self.dimensions.iter().zip(point).map(named).collect()
    }

    /// The point that `parameters` mean, if they name every dimension and may be tried.
    pub fn point(&self, parameters: &[(String, f64)]) -> Option<Point> {
        let value = |dimension: &Dimension| {
            parameters.iter().find(|(name, _)| *name == dimension.name).map(|(_, value)| *value)
        };
        let point = self.dimensions.iter().map(value).collect::<Option<Point>>()?;
        self.contains(&point).then_some(point)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::optimise) fn space(dimensions: &[(&str, &str)], constraints: &[&str]) -> Space {
        let dimension = |&(name, domain): &(&str, &str)| Dimension {
            name: name.to_owned(),
            domain: Domain::parse(domain).unwrap(),
        };
        let constraints = constraints.iter().map(|text| Constraint::parse(text).unwrap()).collect();
        Space::new(dimensions.iter().map(dimension).collect(), constraints).unwrap()
    }

    #[test]
    fn domains_are_read_from_words() {
        assert_eq!(Domain::parse("int 2..60"), Ok(Domain::Integer(2, 60)));
        assert_eq!(Domain::parse(" log-int 1 .. 1000"), Ok(Domain::LogInteger(1, 1_000)));
        assert_eq!(Domain::parse("real -0.5..4"), Ok(Domain::Real(-0.5, 4.0)));
        assert_eq!(Domain::parse("log 0.1..10"), Ok(Domain::Log(0.1, 10.0)));
        assert_eq!(Domain::parse("one of 0, 60,300"), Ok(Domain::Choice(vec![0.0, 60.0, 300.0])));
        for wrong in ["", "int 1", "int 1.5..2", "whole 1..2", "one of", "one of x"] {
            assert!(Domain::parse(wrong).unwrap_err().contains("write it as"), "{wrong}");
        }
        for wrong in ["int 3..2", "real 0..inf", "log 0..1", "log-int 0..5", "one of 1, 1"] {
            assert!(!Domain::parse(wrong).unwrap_err().contains("write it as"), "{wrong}");
        }
    }

    #[test]
    fn constraints_are_read_from_words() {
        let constraint = Constraint::parse("fast < slow").unwrap();
        assert_eq!(constraint.to_string(), "fast < slow");
        assert_eq!(Constraint::parse("a<=b").unwrap().to_string(), "a <= b");
        for wrong in ["fast", "< slow", "fast > slow", "a < b < c", "a < 2 x"] {
            assert!(Constraint::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_space_of_nothing_is_refused() {
        let dimension = |name: &str, domain: &str| Dimension {
            name: name.into(),
            domain: Domain::parse(domain).unwrap(),
        };
        let (a, b) = (dimension("a", "int 5..9"), dimension("b", "int 1..5"));
        let less = |less: &str, than: &str| {
            vec![Constraint { less: less.into(), than: than.into(), or_equal: false }]
        };
        assert_eq!(Space::new(vec![], vec![]), Err(SpaceError::Empty));
        assert_eq!(
            Space::new(vec![a.clone(), a.clone()], vec![]),
            Err(SpaceError::Twice { name: "a".into() })
        );
        assert_eq!(
            Space::new(vec![a.clone(), b.clone()], less("a", "b")),
            Err(SpaceError::Impossible)
        );
        let unknown = Space::new(vec![a, b], less("a", "c")).unwrap_err();
        assert_eq!(unknown.to_string(), "`a < c` names `c`, which is not searched");
    }

    #[test]
    fn each_whole_number_has_an_equal_share() {
        let domain = Domain::Integer(1, 4);
        let values = [0.0, 0.249, 0.25, 0.5, 0.75, 1.0].map(|unit| domain.at(unit));
        assert_eq!(values, [1.0, 1.0, 2.0, 3.0, 4.0, 4.0]);
        let domain = Domain::Choice(vec![5.0, 7.0]);
        assert_eq!([0.0, 0.49, 0.5, 1.0].map(|unit| domain.at(unit)), [5.0, 5.0, 7.0, 7.0]);
    }

    fn any_domain() -> impl Strategy<Value = Domain> {
        prop_oneof![
            (-50i64..50, 0i64..90).prop_map(|(low, more)| Domain::Integer(low, low + more)),
            (1i64..50, 0i64..9_000).prop_map(|(low, more)| Domain::LogInteger(low, low + more)),
            (-5.0..5.0f64, 0.0..9.0f64).prop_map(|(low, more)| Domain::Real(low, low + more)),
            (0.01..5.0f64, 0.0..9.0f64).prop_map(|(low, more)| Domain::Log(low, low + more)),
            (1usize..9)
                .prop_map(|count| Domain::Choice((0..count).map(|it| it as f64 * 1.5).collect())),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn every_unit_is_a_value_that_may_be_tried(domain in any_domain(), unit in 0.0..=1.0f64) {
            prop_assert!(domain.contains(domain.at(unit)), "{:?} {}", domain, domain.at(unit));
        }

        #[test]
        fn a_value_is_found_again_where_it_lies(domain in any_domain(), unit in 0.0..=1.0f64) {
            let value = domain.at(unit);
            let again = domain.at(domain.unit(value));
            prop_assert!((again - value).abs() <= 1e-9 * (1.0 + value.abs()), "{} {}", value, again);
        }

        #[test]
        fn points_keep_their_constraints(seed in any::<u64>(), low in 1i64..20, high in 21i64..90) {
            let domain = format!("int {low}..{high}");
            let space = space(&[("a", &domain), ("b", &domain), ("c", "real 0..1")], &["a < b"]);
            let mut random = Random::new(seed, 0);
            for _ in 0..20 {
                let point = space.draw(&mut random).unwrap();
                prop_assert!(space.contains(&point) && point[0] < point[1]);
                let parameters = space.parameters(&point);
                prop_assert_eq!(space.point(&parameters), Some(point));
            }
        }
    }
}
