//! Simulated devices that speak the real protocols: whoever reads them cannot tell them from real ones.

pub mod line;
pub mod modbus;
pub mod nmea;
pub mod plug;
pub mod webhook;

/// A value that swings between `middle - swing` and `middle + swing` once in `period` seconds, `at` seconds after the
/// start, with a little unrest on it.
fn swinging(middle: f64, swing: f64, period: f64, at: f64) -> f64 {
    let turn = std::f64::consts::TAU * at / period;
    middle + swing * (0.85 * turn.sin() + 0.15 * (turn * 7.3).sin())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swinging_value_stays_within_its_swing_and_moves() {
        let values: Vec<f64> = (0..100).map(|second| swinging(230.0, 2.0, 20.0, f64::from(second))).collect();
        assert!(values.iter().all(|value| (228.0..=232.0).contains(value)));
        assert!(values.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
