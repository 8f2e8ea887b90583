//! Whether a polled value is published: always, on change, or beyond a deadband, and at least every `max_silence`.

use super::Value;

/// When a value is published.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Report {
    /// Every poll.
    Always,
    /// When it differs from the last one published.
    OnChange {
        /// Milliseconds after which it is published all the same.
        max_silence_ms: u64,
    },
    /// When it is more than `deadband` away from the last one published, in the point's unit.
    Deadband {
        /// The distance; what is no number is published on change.
        deadband: f64,
        /// Milliseconds after which it is published all the same.
        max_silence_ms: u64,
    },
}

/// What was published last, for one point.
#[derive(Debug, Clone)]
pub struct ReportFilter {
    report: Report,
    last: Option<(Value, u64)>,
}

impl ReportFilter {
    /// Nothing published yet.
    pub fn new(report: Report) -> Self {
        Self { report, last: None }
    }

    /// Whether `value` is to be published at `now_ms` (on a clock that never goes back). If so it is remembered.
    pub fn accept(&mut self, value: &Value, now_ms: u64) -> bool {
        let (changed, max_silence_ms) = match (self.report, &self.last) {
            (Report::Always, _) => return true,
            (Report::OnChange { max_silence_ms }, Some((last, _))) => (last != value, max_silence_ms),
            (Report::Deadband { deadband, max_silence_ms }, Some((last, _))) => {
                let changed = match (last.as_f64(), value.as_f64()) {
                    (Some(last), Some(value)) => (last - value).abs() > deadband,
                    _ => last != value,
                };
                (changed, max_silence_ms)
            }
            (_, None) => (true, 0),
        };
        let silent = self.last.as_ref().is_some_and(|(_, at)| now_ms.saturating_sub(*at) >= max_silence_ms);
        if changed || silent {
            self.last = Some((value.clone(), now_ms));
            return true;
        }
        false
    }

    /// Whether every value is published.
    pub fn is_always(&self) -> bool {
        self.report == Report::Always
    }

    /// Forgets what was published, so that the next value goes out: after the device was offline.
    pub fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadband_holds_small_changes_back_until_max_silence() {
        let mut filter = ReportFilter::new(Report::Deadband { deadband: 5.0, max_silence_ms: 60_000 });
        let mut accept = |value: f64, now| filter.accept(&Value::Double(value), now);
        assert!(accept(100.0, 0));
        assert!(!accept(104.0, 1_000));
        assert!(!accept(95.0, 2_000), "a change of just the deadband is none");
        assert!(accept(105.5, 3_000));
        assert!(!accept(105.5, 62_999));
        assert!(accept(105.5, 63_000));
    }

    #[test]
    fn on_change_publishes_what_differs() {
        let mut filter = ReportFilter::new(Report::OnChange { max_silence_ms: 1_000_000 });
        assert!(filter.accept(&Value::Bool(true), 0));
        assert!(!filter.accept(&Value::Bool(true), 1));
        assert!(filter.accept(&Value::Bool(false), 2));
        filter.reset();
        assert!(filter.accept(&Value::Bool(false), 3));
    }
}
