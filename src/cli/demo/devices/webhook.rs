//! A simulated door that reports by itself: it POSTs JSON to a webhook each time it opens or closes.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use serde_json::{Value as Json, json};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The door, and what it has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Door {
    is_open: bool,
    openings: u64,
}

impl Door {
    /// Opens it where it is closed, closes it where it is open, and gives what it reports.
    pub fn turn(&mut self) -> Json {
        self.is_open = !self.is_open;
        self.openings += u64::from(self.is_open);
        json!({ "open": self.is_open, "openings": self.openings })
    }
}

/// Turns a door every `pause` and reports it to `url` with `token`, for ever.
///
/// # Errors
/// Where no HTTP client can be made. A report that is not taken is lost, as with real doors.
pub async fn report(url: &str, token: &str, pause: Duration) -> Result<(), reqwest::Error> {
    let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
    let mut door = Door::default();
    loop {
        tokio::time::sleep(pause).await;
        let body = door.turn().to_string();
        let request = client.post(url).header("X-Token", token).header(CONTENT_TYPE, "application/json").body(body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => tracing::debug!(status = %answer.status(), "the door's report was not taken"),
            Err(error) => tracing::debug!(%error, "the door's report was not taken"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_counts_its_openings() {
        let mut door = Door::default();
        let reports: Vec<String> = (0..4).map(|_| door.turn().to_string()).collect();
        assert_eq!(
            reports,
            [
                r#"{"open":true,"openings":1}"#,
                r#"{"open":false,"openings":1}"#,
                r#"{"open":true,"openings":2}"#,
                r#"{"open":false,"openings":2}"#
            ]
        );
    }
}
