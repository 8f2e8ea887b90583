//! Devices that POST to us: all webhooks of the gateway on the one listener of `webhooks.listen`.
//!
//! | answer | when |
//! |---|---|
//! | 204 | taken and published |
//! | 400 | no JSON, or none of the points in it |
//! | 401 | no token, or another one |
//! | 404 | no webhook has this path |
//! | 405 | not a POST |
//! | 408 | the body did not come in 10 s |
//! | 413 | more than 256 KB |

use std::collections::HashMap;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

use super::sampled_at;
use crate::adapters::source::Source;
use crate::adapters::{Adapter, AdapterHandle, CommandTopic, Health, Pace, Published};
use crate::mapping::JsonPath;
use crate::settings::Secret;

/// The longest body that is read.
pub const MAX_BODY_BYTES: usize = 256 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests may take to end when the gateway stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// One webhook, ready to be served by [`Webhooks`].
#[derive(Debug)]
pub struct Hook {
    path: String,
    token: Option<Secret>,
    source: Source,
    time: Option<JsonPath>,
}

impl Hook {
    pub(crate) fn new(path: String, token: Option<Secret>, source: Source, time: Option<JsonPath>) -> Self {
        Self { path, token, source, time }
    }

    /// The path on which it listens.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What it publishes.
    pub fn published(&self) -> Vec<Published> {
        self.source.published(Pace::Unknown)
    }

    /// Name of its device, `offline` until the first good POST.
    pub fn device(&self) -> &str {
        self.source.device()
    }
}

/// A hook at work.
struct Mounted {
    token: Option<Secret>,
    time: Option<JsonPath>,
    handle: Arc<AdapterHandle>,
    started: Instant,
    /// Guards what was published last, for the moment of reading one body and publishing it: so that two posts at
    /// once come out in one order.
    state: Mutex<(Source, TimeMissed)>,
}

type TimeMissed = bool;

/// All webhooks of the gateway on one listener.
#[derive(Debug)]
pub struct Webhooks {
    listener: TcpListener,
    hooks: Vec<Hook>,
}

impl Webhooks {
    /// Serves `hooks` on `listener`, and nothing else.
    pub fn new(listener: TcpListener, hooks: Vec<Hook>) -> Self {
        Self { listener, hooks }
    }
}

impl Adapter for Webhooks {
    fn name(&self) -> &str {
        "webhooks"
    }

    fn devices(&self) -> Vec<String> {
        self.hooks.iter().map(|hook| hook.device().to_owned()).collect()
    }

    fn command_topics(&self) -> Vec<CommandTopic> {
        Vec::new()
    }

    fn published(&self) -> Vec<Published> {
        self.hooks.iter().flat_map(Hook::published).collect()
    }

    fn run(self: Box<Self>, handle: AdapterHandle) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let cancelled = handle.cancellation();
        let server = axum::serve(self.listener, router(self.hooks, &Arc::new(handle)));
        let server = server.with_graceful_shutdown(cancelled.clone().cancelled_owned());
        Box::pin(async move {
            let too_late = async {
                cancelled.cancelled().await;
                tokio::time::sleep(STOP_TIMEOUT).await;
            };
            tokio::select! {
                ended = server.into_future() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "webhooks ended");
                    }
                }
                () = too_late => {}
            }
        })
    }
}

/// A router over `hooks`, which publish by `handle`. Hooks on one path are refused by
/// [`super::settings::conflicting_hooks`] before; of such the last one is mounted.
pub fn router(hooks: Vec<Hook>, handle: &Arc<AdapterHandle>) -> Router {
    let started = Instant::now();
    let mounted = hooks.into_iter().map(|hook| {
        let state = Mutex::new((hook.source, false));
        let handle = Arc::clone(handle);
        (hook.path, Mounted { token: hook.token, time: hook.time, handle, started, state })
    });
    let hooks: Arc<HashMap<String, Mounted>> = Arc::new(mounted.collect());
    // Paths are compared as they are: a route's syntax would give `{` and `*` in them a meaning.
    Router::new().fallback(receive).with_state(hooks)
}

async fn receive(State(hooks): State<Arc<HashMap<String, Mounted>>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Some(hook) = hooks.get(head.uri.path()) else {
        return refuse(StatusCode::NOT_FOUND, "no webhook has this path");
    };
    if head.method != Method::POST {
        let answer = refuse(StatusCode::METHOD_NOT_ALLOWED, "a webhook takes POST");
        return ([(ALLOW, "POST")], answer).into_response();
    }
    if let Some(token) = &hook.token
        && !given_token(&head.headers, &head.uri).is_some_and(|given| is_same(token.reveal(), &given))
    {
        return refuse(StatusCode::UNAUTHORIZED, "the token is missing or wrong");
    }
    let body = match read(&head.headers, body).await {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    match hook.take(&head.headers, &body) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(reason) => {
            hook.count_error();
            refuse(StatusCode::BAD_REQUEST, &reason)
        }
    }
}

async fn read(headers: &HeaderMap, body: Body) -> Result<axum::body::Bytes, Response> {
    let too_long = || refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 256 KB");
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        return Err(too_long());
    }
    match timeout(BODY_TIMEOUT, axum::body::to_bytes(body, MAX_BODY_BYTES)).await {
        Ok(Ok(body)) => Ok(body),
        // The other error is a sender that went away, which reads no answer.
        Ok(Err(_)) => Err(too_long()),
        Err(_) => Err(refuse(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
}

impl Mounted {
    fn count_error(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.handle.count_error(state.0.device());
    }

    fn take(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (source, time_missed) = &mut *state;
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let json = if !source.has_points() && content_type.starts_with("text/") {
            Json::from(String::from_utf8_lossy(body))
        } else {
            serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))?
        };
        let sampled = sampled_at(&json, self.time.as_ref(), source.device(), time_missed);
        let harvest = source.read(&json, sampled, self.started.elapsed().as_millis() as u64);
        if !harvest.found {
            return Err("no point found in the body".into());
        }
        self.handle.report(source.device(), &Health::Online);
        self.handle.publish(&harvest.messages);
        Ok(())
    }
}

/// The token as `Authorization: Bearer`, as `X-Token`, or as `?token=`.
fn given_token(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(token) = header(AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer ")) {
        return Some(token.trim().to_owned());
    }
    if let Some(token) = header("x-token") {
        return Some(token.to_owned());
    }
    let url = reqwest::Url::parse(&format!("http://hook/?{}", uri.query()?)).ok()?;
    url.query_pairs().find(|(name, _)| name == "token").map(|(_, token)| token.into_owned())
}

/// Compares in a time that depends on the length of what was given alone.
fn is_same(token: &str, given: &str) -> bool {
    let (token, given) = (token.as_bytes(), given.as_bytes());
    let mut difference = usize::from(token.len() != given.len()) | usize::from(token.is_empty());
    for (index, byte) in given.iter().enumerate() {
        let expected = token.get(index % token.len().max(1)).copied().unwrap_or_default();
        difference |= usize::from(std::hint::black_box(byte ^ expected));
    }
    std::hint::black_box(difference) == 0
}

fn refuse(status: StatusCode, reason: &str) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], json!({ "error": reason }).to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_the_same_or_not() {
        assert!(is_same("secret", "secret"));
        for given in ["", "secre", "secrets", "secretsecret", "Secret"] {
            assert!(!is_same("secret", given), "{given}");
        }
        assert!(!is_same("", ""));
    }
}
