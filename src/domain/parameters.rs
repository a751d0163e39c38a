//! Numbers that factors and strategies are made from, as configuration gives them.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A parameter's name and its value when configuration is silent.
pub type Declared = (&'static str, f64);

/// Other parameters for one strategy, from an event time on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParameterChange {
    /// Holds from the first row whose frontier is not before this.
    pub at: Timestamp,
    /// The strategy's place in the configuration.
    pub strategy: usize,
    /// Names and values; those not given stay as they are.
    pub parameters: Vec<(String, f64)>,
}

/// Why parameters do not suit what they were given to.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParameterError {
    /// No parameter has this name.
    #[error("has no parameter `{name}`; it has: {known}")]
    Unknown {
        /// The name given.
        name: String,
        /// The names there are, with commas between.
        known: String,
    },
    /// More values than parameters.
    #[error("has {max} parameters, {count} were given")]
    TooMany {
        /// Values given.
        count: usize,
        /// Parameters there are.
        max: usize,
    },
    /// One parameter was given twice.
    #[error("parameter `{name}` is given twice")]
    Twice {
        /// Which.
        name: String,
    },
    /// A value that makes no sense for its parameter.
    #[error("parameter `{name}` is {value}; it must be {need}")]
    OutOfRange {
        /// Which.
        name: String,
        /// What was given.
        value: f64,
        /// What would do.
        need: String,
    },
}

/// The values of `declared`, in their order: those `given` (an empty name means by position), else
/// the declared ones.
///
/// # Errors
///
/// [`ParameterError`] when a name is unknown or given twice, there are too many values, or one is
/// not a finite number.
pub fn resolve(declared: &[Declared], given: &[(String, f64)]) -> Result<Vec<f64>, ParameterError> {
    if given.len() > declared.len() {
        return Err(ParameterError::TooMany { count: given.len(), max: declared.len() });
    }
    let mut values: Vec<f64> = declared.iter().map(|&(_, value)| value).collect();
    let mut is_given = vec![false; declared.len()];
    for (position, (name, value)) in given.iter().enumerate() {
        let place = if name.is_empty() {
            position
        } else {
            declared.iter().position(|(known, _)| known == name).ok_or_else(|| {
                let known: Vec<&str> = declared.iter().map(|&(name, _)| name).collect();
                ParameterError::Unknown { name: name.clone(), known: known.join(", ") }
            })?
        };
        let name = declared[place].0;
        if std::mem::replace(&mut is_given[place], true) {
            return Err(ParameterError::Twice { name: name.to_owned() });
        }
        if !value.is_finite() {
            return Err(out_of_range(name, *value, "a finite number"));
        }
        values[place] = *value;
    }
    Ok(values)
}

/// `value` as a whole number within `min..=max`.
///
/// # Errors
///
/// [`ParameterError::OutOfRange`] when it is not.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be whole and in range"
)]
pub fn whole(name: &str, value: f64, min: u32, max: u32) -> Result<u32, ParameterError> {
    if value.fract() != 0.0 || !(f64::from(min)..=f64::from(max)).contains(&value) {
        return Err(out_of_range(name, value, &format!("a whole number from {min} to {max}")));
    }
    Ok(value as u32)
}

/// A value that makes no sense for its parameter.
pub fn out_of_range(name: &str, value: f64, need: &str) -> ParameterError {
    ParameterError::OutOfRange { name: name.to_owned(), value, need: need.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BANDS: [Declared; 2] = [("period", 20.0), ("width", 2.0)];

    fn given(values: &[(&str, f64)]) -> Vec<(String, f64)> {
        values.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
    }

    #[test]
    fn what_is_not_given_keeps_its_declared_value() {
        assert_eq!(resolve(&BANDS, &[]).unwrap(), [20.0, 2.0]);
        assert_eq!(resolve(&BANDS, &given(&[("", 30.0)])).unwrap(), [30.0, 2.0]);
        assert_eq!(resolve(&BANDS, &given(&[("width", 3.0)])).unwrap(), [20.0, 3.0]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        let error = |values: &[(&str, f64)]| resolve(&BANDS, &given(values)).unwrap_err();
        assert_eq!(
            error(&[("widht", 3.0)]).to_string(),
            "has no parameter `widht`; it has: period, width"
        );
        assert!(matches!(error(&[("", 1.0), ("period", 2.0)]), ParameterError::Twice { .. }));
        assert!(matches!(error(&[("", 1.0); 3]), ParameterError::TooMany { count: 3, max: 2 }));
        assert!(matches!(error(&[("", f64::NAN)]), ParameterError::OutOfRange { .. }));
    }

    #[test]
    fn a_whole_number_is_within_its_range_or_refused() {
        assert_eq!(whole("period", 2.0, 2, 5), Ok(2));
        assert_eq!(whole("period", 5.0, 2, 5), Ok(5));
        for value in [1.0, 6.0, 2.5, -3.0] {
            assert!(whole("period", value, 2, 5).is_err(), "{value}");
        }
    }
}
