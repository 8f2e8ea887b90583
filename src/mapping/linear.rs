//! `value * scale + offset`, without the dust of binary fractions.

use super::Value;

/// What `scale` and `offset` of a point do to its numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Linear {
    scale: f64,
    offset: f64,
}

impl Default for Linear {
    fn default() -> Self {
        Self { scale: 1.0, offset: 0.0 }
    }
}

impl Linear {
    /// Multiplies by `scale`, then adds `offset`; `None` for a scale that is 0, and for what is not finite.
    pub fn new(scale: f64, offset: f64) -> Option<Self> {
        (scale != 0.0 && scale.is_finite() && offset.is_finite()).then_some(Self { scale, offset })
    }

    /// From what the device says to what is published. What is no number, and a number that stays the same, is
    /// returned as it is.
    pub fn apply(&self, value: Value) -> Value {
        self.transform(value, |number| {
            let scaled = number * self.scale;
            tidy_beside(scaled + self.offset, scaled.abs().max(self.offset.abs()))
        })
    }

    /// From what is written to what the device is told.
    pub fn invert(&self, value: Value) -> Value {
        self.transform(value, |number| {
            let magnitude = number.abs().max(self.offset.abs()) / self.scale.abs();
            tidy_beside((number - self.offset) / self.scale, magnitude)
        })
    }

    fn transform(&self, value: Value, transform: impl Fn(f64) -> f64) -> Value {
        if *self == Self::default() || matches!(value, Value::Bool(_)) {
            return value;
        }
        match value.as_f64() {
            Some(number) => Value::Double(transform(number)),
            None => value,
        }
    }
}

/// `number` to 15 significant digits, which is what a double holds of a decimal number: 3 * 0.1 becomes 0.3.
pub fn tidy(number: f64) -> f64 {
    tidy_beside(number, number.abs())
}

/// `number` to the last digit that is sure in a sum with an operand of `magnitude`.
fn tidy_beside(number: f64, magnitude: f64) -> f64 {
    if magnitude == 0.0 || !magnitude.is_finite() {
        return number;
    }
    let places = (14.0 - magnitude.log10().floor()).clamp(0.0, 300.0) as usize;
    format!("{number:.places$}").parse().unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaled_values_have_no_dust() {
        let linear = Linear::new(0.1, -40.0).unwrap();
        assert_eq!(linear.apply(Value::Integer(3)), Value::Double(-39.7));
        assert_eq!(linear.apply(Value::Integer(403)), Value::Double(0.3));
        assert_eq!(Linear::new(0.1, 0.0).unwrap().apply(Value::Integer(3)), Value::Double(0.3));
        assert_eq!(linear.invert(Value::Double(-39.7)), Value::Double(3.0));
        assert_eq!(linear.apply(Value::Text("auto".into())), Value::Text("auto".into()));
        assert_eq!(Linear::default().apply(Value::Integer(3)), Value::Integer(3));
        assert_eq!(Linear::new(0.0, 1.0), None);
    }
}
