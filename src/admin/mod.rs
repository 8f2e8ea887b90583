//! Where monitoring asks how the gateway is: `/healthz` and `/metrics` on a listener of their own.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200, or 503 where a promise is not kept; JSON with the reasons |
//! | `/metrics` | all numbers in Prometheus' text format |
//!
//! With a password, `/metrics` wants it, and `/healthz` says without it no more than whether all is well.

mod exposition;
mod metrics;
mod settings;

#[cfg(test)]
mod tests;

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value as Json, json};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use settings::{Plan, Settings};

use crate::broker::Broker;
use crate::health::{HealthTable, Level};
use crate::settings::Secret;
use crate::store::Statistics;

/// How long requests may take to end when the gateway stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// What there is to tell.
#[derive(Debug)]
pub struct Admin {
    /// The broker inside.
    pub broker: Arc<Broker>,
    /// How bridges, devices and the journal are.
    pub health: Arc<HealthTable>,
    /// What the journal counts; `None` where nothing is kept.
    pub statistics: Option<Arc<Statistics>>,
    /// What is asked for.
    pub password: Option<Secret>,
    /// When the gateway was started.
    pub started: Instant,
}

impl Admin {
    /// Answers on `listener` until `cancelled`.
    pub async fn serve(self, listener: TcpListener, cancelled: CancellationToken) {
        let router = Router::new().fallback(answer).with_state(Arc::new(self));
        let server = axum::serve(listener, router).with_graceful_shutdown(cancelled.clone().cancelled_owned());
        let too_late = async {
            cancelled.cancelled().await;
            tokio::time::sleep(STOP_TIMEOUT).await;
        };
        tokio::select! {
            ended = server.into_future() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the admin listener ended");
                }
            }
            () = too_late => {}
        }
    }

    /// Whether the request brings the password, where there is one.
    fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(password) = &self.password else { return true };
        let given = headers.get(AUTHORIZATION).and_then(|value| {
            let (scheme, login) = value.to_str().ok()?.split_once(' ')?;
            let login = STANDARD.decode(login.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
            let colon = login.iter().position(|byte| *byte == b':')?;
            Some(digest(&SHA256, &login[colon + 1..]))
        });
        // How long it takes to compare hashes tells nothing of the password.
        given.is_some_and(|given| given.as_ref() == digest(&SHA256, password.reveal().as_bytes()).as_ref())
    }

    fn health(&self, with_reasons: bool) -> Response {
        let verdict = self.health.verdict();
        let level = verdict.level();
        let mut told = json!({ "status": level.to_string() });
        if with_reasons && let Some(told) = told.as_object_mut() {
            told.insert("failures".into(), json!(verdict.failures));
            told.insert("warnings".into(), json!(verdict.warnings));
            told.insert("store".into(), self.store());
            told.insert("bridges".into(), self.bridges());
            told.insert("devices".into(), self.devices());
        }
        let status = if level == Level::Failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
        (status, headers, format!("{told}\n")).into_response()
    }

    fn store(&self) -> Json {
        match self.health.store().failure() {
            Some(error) => json!({ "state": "failed", "error": error.to_string() }),
            None if self.statistics.is_some() => json!({ "state": "ok" }),
            None => json!({ "state": "in_memory" }),
        }
    }

    fn bridges(&self) -> Json {
        let bridges = self.health.bridges().into_iter().map(|bridge| {
            let backlog = bridge.backlog();
            let mut told = json!({
                "connected": bridge.is_connected(),
                "state": bridge.link().state.to_string(),
                "queued": backlog.queued,
                "dropped": backlog.dropped,
                "full": backlog.is_full,
            });
            if let (false, Some(error), Some(told)) = (bridge.is_connected(), bridge.last_error(), told.as_object_mut())
            {
                told.insert("error".into(), json!(error.to_string()));
            }
            (bridge.name().to_owned(), told)
        });
        Json::Object(bridges.collect())
    }

    /// Those that do not answer by name: of the others there may be many.
    fn devices(&self) -> Json {
        let mut online = 0;
        let mut offline = Map::new();
        for device in self.health.devices() {
            if device.is_online() {
                online += 1;
            } else {
                offline.insert(device.name().into(), json!(device.error().unwrap_or_default().to_string()));
            }
        }
        json!({ "online": online, "offline": offline })
    }
}

async fn answer(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    let path = request.uri().path();
    if !matches!(path, "/healthz" | "/metrics") {
        return refuse(StatusCode::NOT_FOUND, "there are /healthz and /metrics; the page is not available yet");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let answer = refuse(StatusCode::METHOD_NOT_ALLOWED, "this is only read");
        return ([(ALLOW, "GET, HEAD")], answer).into_response();
    }
    let knows = admin.knows(request.headers());
    if path == "/healthz" {
        return admin.health(knows);
    }
    if !knows {
        let answer = refuse(StatusCode::UNAUTHORIZED, "the password is missing or wrong");
        return ([(WWW_AUTHENTICATE, "Basic realm=\"edgeway\"")], answer).into_response();
    }
    let headers = [(CONTENT_TYPE, exposition::CONTENT_TYPE), (CACHE_CONTROL, "no-store")];
    (headers, metrics::render(&admin)).into_response()
}

fn refuse(status: StatusCode, reason: &str) -> Response {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{reason}\n")).into_response()
}
