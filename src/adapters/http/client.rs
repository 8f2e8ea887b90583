//! Requests to devices: one client for all, how to log in, and bounds on what comes back.

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Method, Response, StatusCode, Url};
use serde_json::Value as Json;

use super::digest;
use crate::settings::Secret;

/// The longest answer that is read.
pub const MAX_ANSWER_BYTES: usize = 1024 * 1024;
const MAX_REDIRECTS: usize = 3;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The HTTP client that all sources of a gateway share, made when the first of them asks for it.
///
/// The program's TLS provider must be installed by then.
#[derive(Debug, Clone, Default)]
pub struct Client {
    shared: Arc<OnceLock<Result<reqwest::Client, String>>>,
}

impl Client {
    fn client(&self) -> Result<&reqwest::Client, String> {
        let made = self.shared.get_or_init(|| {
            reqwest::Client::builder()
                .user_agent(concat!("edgeway/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(Duration::from_secs(60))
                .pool_max_idle_per_host(1)
                .redirect(Policy::custom(redirect))
                .build()
                .map_err(|error| format!("cannot make an HTTP client: {}", in_words(error)))
        });
        made.as_ref().map_err(Clone::clone)
    }
}

/// Secrets go to the host that they were given for and to no other.
fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let Some(first) = attempt.previous().first() else { return attempt.follow() };
    let downgraded = first.scheme() == "https" && attempt.url().scheme() != "https";
    if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error("it redirects too often")
    } else if first.host_str() != attempt.url().host_str() || downgraded {
        let (scheme, host) = (attempt.url().scheme(), attempt.url().host_str().unwrap_or_default());
        let reason = format!("it redirects to {scheme}://{host}, which is not followed");
        attempt.error(reason)
    } else {
        attempt.follow()
    }
}

/// How to log in.
#[derive(Debug, Clone)]
pub enum Auth {
    /// User name and password, readable for whoever listens unless the URL is https.
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: Secret,
    },
    /// A challenge is answered; the password is never sent (RFC 7616).
    Digest {
        /// User name.
        user: String,
        /// Password.
        password: Secret,
    },
    /// A token.
    Bearer(Secret),
    /// Headers with secrets.
    Headers(HeaderMap),
}

/// What all requests to one device have in common.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The shared client.
    pub client: Client,
    /// How to log in.
    pub auth: Option<Auth>,
    /// Headers of every request.
    pub headers: HeaderMap,
}

impl Endpoint {
    /// The JSON at `url`, of at most 1 MB. It may take for ever: the caller sets a timeout.
    ///
    /// # Errors
    /// A reason in words: it cannot connect, another status than 2xx, too long an answer, no JSON.
    pub async fn fetch(&self, url: &Url) -> Result<Json, String> {
        let mut answer = self.send(&Method::GET, url, None).await?;
        let too_long = || format!("the answer is longer than {} KB", MAX_ANSWER_BYTES / 1024);
        if answer.content_length().is_some_and(|length| length > MAX_ANSWER_BYTES as u64) {
            return Err(too_long());
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(in_words)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(too_long());
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|error| format!("the answer is no JSON: {error}"))
    }

    /// Sends a request, and once more where the device asks for a digest.
    ///
    /// # Errors
    /// A reason in words: it cannot connect, or another status than 2xx.
    pub async fn send(&self, method: &Method, url: &Url, body: Option<&str>) -> Result<Response, String> {
        let answer = self.request(method, url, body, None)?.send().await.map_err(in_words)?;
        let answer = match (&self.auth, answer.status()) {
            (Some(Auth::Digest { user, password }), StatusCode::UNAUTHORIZED) => {
                let challenges = answer.headers().get_all(WWW_AUTHENTICATE);
                let challenges = challenges.iter().filter_map(|challenge| challenge.to_str().ok());
                let authorization = digest::answer(challenges, method.as_str(), url, user, password.reveal())
                    .ok_or("the device asks for no digest that is known here")?;
                self.request(method, url, body, Some(authorization))?.send().await.map_err(in_words)?
            }
            _ => answer,
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        Err(format!("the device answered {status}"))
    }

    fn request(
        &self,
        method: &Method,
        url: &Url,
        body: Option<&str>,
        authorization: Option<String>,
    ) -> Result<reqwest::RequestBuilder, String> {
        let mut request = self.client.client()?.request(method.clone(), url.clone()).headers(self.headers.clone());
        request = match &self.auth {
            Some(Auth::Basic { user, password }) => request.basic_auth(user, Some(password.reveal())),
            Some(Auth::Bearer(token)) => request.bearer_auth(token.reveal()),
            Some(Auth::Headers(headers)) => request.headers(headers.clone()),
            Some(Auth::Digest { .. }) | None => request,
        };
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(body) = body {
            let is_json = body.trim_start().starts_with(['{', '[']);
            if !self.headers.contains_key(CONTENT_TYPE) {
                request = request.header(CONTENT_TYPE, if is_json { "application/json" } else { "text/plain" });
            }
            request = request.body(body.to_owned());
        }
        Ok(request)
    }
}

/// What went wrong, without the URL, which may hold a secret.
fn in_words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if error.is_timeout() {
        "no answer in time".into()
    } else if error.is_connect() {
        format!("cannot connect: {cause}")
    } else {
        cause.to_string()
    }
}
