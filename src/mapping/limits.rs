//! The limits of what may be written to a point.

use super::Value;

/// The smallest and largest value that may be written, in the point's unit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Default: what the type holds.
    pub min: Option<f64>,
    /// Default: what the type holds.
    pub max: Option<f64>,
}

/// A value beyond its [`Limits`].
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum BeyondLimits {
    /// Below `min`.
    #[error("{value} is below the minimum {min}")]
    Below {
        /// The value, in the point's unit.
        value: f64,
        /// The limit.
        min: f64,
    },
    /// Above `max`.
    #[error("{value} is above the maximum {max}")]
    Above {
        /// The value, in the point's unit.
        value: f64,
        /// The limit.
        max: f64,
    },
}

impl Limits {
    /// Whether there are none.
    pub const fn is_none(&self) -> bool {
        self.min.is_none() && self.max.is_none()
    }

    /// Why nothing lies within them, where that is so.
    pub fn problem(&self) -> Option<String> {
        match (self.min, self.max) {
            (Some(min), Some(max)) if min > max => Some(format!("min {min} is above max {max}")),
            _ => None,
        }
    }

    /// Checks a number; what is none passes.
    ///
    /// # Errors
    /// Where it lies beyond them.
    pub fn check(&self, value: &Value) -> Result<(), BeyondLimits> {
        let Some(value) = value.as_f64() else { return Ok(()) };
        match (self.min, self.max) {
            (Some(min), _) if value < min => Err(BeyondLimits::Below { value, min }),
            (_, Some(max)) if value > max => Err(BeyondLimits::Above { value, max }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_themselves_are_within() {
        let limits = Limits { min: Some(5.0), max: Some(35.0) };
        for within in [5.0, 35.0] {
            assert_eq!(limits.check(&Value::Double(within)), Ok(()));
        }
        assert_eq!(limits.check(&Value::Integer(4)).unwrap_err().to_string(), "4 is below the minimum 5");
        assert_eq!(limits.check(&Value::Single(36.0)).unwrap_err().to_string(), "36 is above the maximum 35");
        assert_eq!((limits.problem(), limits.is_none()), (None, false));
        let none = Limits { min: Some(2.0), max: Some(1.0) };
        assert_eq!(none.problem().as_deref(), Some("min 2 is above max 1"));
    }
}
