//! A simulated plug with an HTTP interface like that of a Shelly Plus Plug: status and switching by GET.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::swinging;

/// A plug with a small load on it.
#[derive(Debug)]
pub struct Plug {
    started: Instant,
    /// Guards what the plug remembers, for the moment of one request.
    state: Mutex<Switch>,
}

#[derive(Debug)]
struct Switch {
    is_on: bool,
    watt_hours: f64,
    at: Instant,
}

impl Plug {
    /// A plug that is on and has counted `watt_hours` so far.
    pub fn new(watt_hours: f64) -> Self {
        let now = Instant::now();
        Self { started: now, state: Mutex::new(Switch { is_on: true, watt_hours, at: now }) }
    }

    /// What `Switch.GetStatus` answers.
    pub fn status(&self) -> Json {
        let (is_on, watts, volts, watt_hours) = self.measure(None);
        json!({
            "id": 0,
            "source": "init",
            "output": is_on,
            "apower": rounded(watts),
            "voltage": rounded(volts),
            "current": rounded(watts / volts),
            "aenergy": { "total": watt_hours },
            "temperature": { "tC": rounded(31.0 + watts / 30.0) },
        })
    }

    /// Switches it, and gives what `Switch.Set` answers.
    pub fn switch(&self, on: bool) -> Json {
        let (was_on, ..) = self.measure(Some(on));
        json!({ "was_on": was_on })
    }

    /// Counts up to now, then switches where that is asked; gives what was before.
    fn measure(&self, switch_to: Option<bool>) -> (bool, f64, f64, f64) {
        let now = Instant::now();
        let seconds = (now - self.started).as_secs_f64();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let watts = if state.is_on { swinging(61.0, 4.0, 13.0, seconds) } else { 0.0 };
        state.watt_hours += watts * now.saturating_duration_since(state.at).as_secs_f64() / 3600.0;
        state.at = now;
        let before = (state.is_on, watts, swinging(230.4, 1.6, 47.0, seconds), state.watt_hours);
        state.is_on = switch_to.unwrap_or(state.is_on);
        before
    }
}

/// Serves `plug` until the future is dropped.
///
/// # Errors
/// Where no more connections can be accepted.
pub async fn serve(listener: TcpListener, plug: Arc<Plug>) -> io::Result<()> {
    let router = Router::new()
        .route("/rpc/Switch.GetStatus", get(status))
        .route("/rpc/Switch.Set", get(switch))
        .with_state(plug);
    axum::serve(listener, router).await
}

async fn status(State(plug): State<Arc<Plug>>) -> Response {
    answer(StatusCode::OK, &plug.status())
}

async fn switch(State(plug): State<Arc<Plug>>, uri: Uri) -> Response {
    let on = uri.query().into_iter().flat_map(|query| query.split('&')).find_map(|pair| pair.strip_prefix("on="));
    match on {
        Some("true") => answer(StatusCode::OK, &plug.switch(true)),
        Some("false") => answer(StatusCode::OK, &plug.switch(false)),
        _ => answer(StatusCode::BAD_REQUEST, &json!({ "code": -103, "message": "on is true or false" })),
    }
}

fn answer(status: StatusCode, json: &Json) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], json.to_string()).into_response()
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_plug_that_is_off_takes_nothing() {
        let plug = Plug::new(1000.0);
        tokio::time::advance(std::time::Duration::from_secs(3600)).await;
        assert_eq!(plug.switch(false), json!({ "was_on": true }));
        let status = plug.status();
        assert_eq!((&status["output"], &status["apower"]), (&json!(false), &json!(0.0)));
        let counted = status["aenergy"]["total"].as_f64().unwrap();
        assert!((1057.0..=1065.0).contains(&counted), "{counted}");
        tokio::time::advance(std::time::Duration::from_secs(3600)).await;
        assert_eq!(plug.status()["aenergy"]["total"], status["aenergy"]["total"]);
        assert_eq!(plug.switch(true), json!({ "was_on": false }));
        assert!(plug.status()["apower"].as_f64().unwrap() > 50.0);
    }
}
