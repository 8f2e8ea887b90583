//! Certificates that are replaced while a bridge runs: new ones prove themselves on a second connection first.
//!
//! ```text
//!               files change                    a server takes them
//!   in use  ------------------>  tried  -------------------------------->  in use, the link is made anew
//!     ^                            |                                                    |
//!     +----------------------------+  refused: until they change, or 10 minutes later   |  CONNECT is refused:
//!     +---------------------------------------------------------------------------------+  the old ones are back
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::plan::{Plan, Server};
use crate::health::BridgeHealth;
use crate::net::client_tls::{Candidate, ClientTls, ClientTlsError};
use crate::net::dial::{DialError, Means, prove};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How long files that were refused are left alone while they do not change.
const AGAIN: Duration = Duration::from_secs(600);
/// How soon files are tried again that nobody could be asked about.
const AGAIN_UNANSWERED: Duration = Duration::from_secs(30);
/// How long one server is tried with new files.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether a certificate ends soon.
const DAY: Duration = Duration::from_secs(86_400);

/// What a bridge dials with, and the certificates in it.
#[derive(Debug)]
pub(super) struct Renewal {
    bridge: String,
    /// Those that are spoken to by TLS.
    servers: Vec<Server>,
    means: Means,
    tls: Option<Arc<ClientTls>>,
    trial: Mutex<Trial>,
}

#[derive(Debug, Default)]
struct Trial {
    /// What was in use before the newest files, until a CONNECT has shown that those are good.
    before: Option<Candidate>,
    /// When files are tried again that have not changed.
    again: Option<Instant>,
}

/// Tells when a link is to be made anew.
#[derive(Debug)]
pub(super) struct Renewed(Option<watch::Receiver<Arc<ClientConfig>>>);

/// What came of new files.
enum Outcome {
    /// There are none, or they are in use.
    Done,
    /// They do not fit together, perhaps not yet.
    Unusable(ClientTlsError),
    /// Nobody answered.
    Unanswered(DialError),
    /// A server does not take them.
    Refused(DialError),
}

impl Renewal {
    /// Reads the files of `plan`. Where they cannot be used it says so and tries again.
    pub(super) async fn load(plan: &Plan, health: &BridgeHealth) -> Self {
        let bridge = plan.name.clone();
        let servers: Vec<Server> = plan.servers.iter().filter(|server| server.tls).cloned().collect();
        let mut told = String::new();
        let tls = loop {
            if servers.is_empty() {
                break None;
            }
            let options = plan.tls.clone();
            // It fails only where the runtime stops.
            let Ok(loaded) = tokio::task::spawn_blocking(move || ClientTls::load(options)).await else {
                sleep(LOOK).await;
                continue;
            };
            match loaded {
                Ok(tls) => break Some(Arc::new(tls)),
                Err(error) => {
                    let error = error.to_string();
                    if told != error {
                        tracing::error!(bridge, error, "bridge cannot start");
                        health.disconnected(&error);
                        told = error;
                    }
                }
            }
            sleep(LOOK).await;
        };
        let means = Means {
            tls: None,
            server_name: plan.tls.server_name.clone(),
            proxy: plan.proxy.clone(),
            silence: Duration::from_secs(u64::from(plan.keep_alive_seconds)),
            timeout: TRIAL_TIMEOUT,
        };
        Self { bridge, servers, means, tls, trial: Mutex::default() }
    }

    /// What to dial with now, within `timeout`, and what tells when that has changed.
    pub(super) fn means(&self, timeout: Duration) -> (Means, Renewed) {
        let renewed = self.renewed();
        (Means { tls: self.tls.as_ref().map(|tls| tls.current()), timeout, ..self.means.clone() }, renewed)
    }

    /// What tells when there is something new to dial with from now on.
    pub(super) fn renewed(&self) -> Renewed {
        Renewed(self.tls.as_ref().map(|tls| tls.subscribe()))
    }

    /// Notes that a server has let the bridge in with what came with `renewed`.
    pub(super) fn accepted(&self, renewed: &Renewed) {
        if renewed.is_newest() {
            self.lock().before = None;
        }
    }

    /// Notes that a server has refused the bridge with what came with `renewed`. Whether what was in use before is in
    /// use again.
    pub(super) fn refused(&self, renewed: &Renewed, error: &str) -> bool {
        if !renewed.is_newest() {
            return false;
        }
        let (Some(tls), Some(before)) = (&self.tls, self.lock().before.take()) else {
            return false;
        };
        tls.adopt(before);
        self.lock().again = Some(Instant::now() + AGAIN);
        let bridge = &self.bridge;
        tracing::error!(bridge, error, "the server refuses the bridge with the new TLS files; the old ones are in use");
        true
    }

    /// Looks after the files for as long as it is polled.
    pub(super) async fn watch(&self) {
        let Some(tls) = &self.tls else {
            return std::future::pending().await;
        };
        let bridge = &self.bridge;
        let mut files = tls.watch();
        let mut unusable = false;
        let mut warned: Option<Instant> = None;
        loop {
            if warned.is_none_or(|warned| warned.elapsed() >= DAY) {
                self.warn_of_endings(tls);
                warned = Some(Instant::now());
            }
            let changed = files.look().await;
            let is_time = self.lock().again.is_some_and(|again| Instant::now() >= again);
            if changed || is_time {
                self.lock().again = None;
                // Certificate and key come one after the other.
                let was_unusable = unusable && !changed;
                unusable = false;
                let pause = match self.renew(tls).await {
                    Outcome::Done => None,
                    Outcome::Unusable(_) if !was_unusable => {
                        unusable = true;
                        Some(LOOK)
                    }
                    Outcome::Unusable(error) => {
                        tracing::error!(bridge, %error, "new TLS files cannot be used; the old ones stay in use");
                        Some(AGAIN)
                    }
                    Outcome::Refused(error) => {
                        tracing::error!(bridge, %error, "new TLS files are refused; the old ones stay in use");
                        Some(AGAIN)
                    }
                    Outcome::Unanswered(error) => {
                        if changed {
                            tracing::warn!(bridge, %error, "new TLS files cannot be tried; the old ones stay in use");
                        }
                        Some(AGAIN_UNANSWERED)
                    }
                };
                if let Some(pause) = pause {
                    self.lock().again = Some(Instant::now() + pause);
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Tries what the files hold, where it is new, and uses it if a server takes it.
    async fn renew(&self, tls: &Arc<ClientTls>) -> Outcome {
        let reader = Arc::clone(tls);
        let candidate = match tokio::task::spawn_blocking(move || reader.read()).await {
            Ok(Ok(Some(candidate))) => candidate,
            Ok(Err(error)) => return Outcome::Unusable(error),
            // Nothing new, or the runtime stops.
            Ok(Ok(None)) | Err(_) => return Outcome::Done,
        };
        let means = Means { tls: Some(Arc::clone(candidate.config())), ..self.means.clone() };
        let mut unanswered = None;
        for server in &self.servers {
            match prove(server, &means).await {
                Ok(()) => {
                    tracing::info!(bridge = self.bridge, %server, "new TLS files are accepted");
                    self.lock().before = Some(tls.adopt(candidate));
                    self.warn_of_endings(tls);
                    return Outcome::Done;
                }
                Err(error) if error.is_refusal() => return Outcome::Refused(error),
                Err(error) => unanswered = Some(error),
            }
        }
        unanswered.map_or(Outcome::Done, Outcome::Unanswered)
    }

    fn warn_of_endings(&self, tls: &ClientTls) {
        for ending in tls.endings(SystemTime::now()) {
            tracing::warn!(bridge = self.bridge, certificate = %ending, "a certificate ends");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Trial> {
        // Each of its fields is assigned by itself.
        self.trial.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Renewed {
    fn is_newest(&self) -> bool {
        self.0.as_ref().is_none_or(|receiver| !receiver.has_changed().unwrap_or(false))
    }

    /// Waits until there is something new to dial with.
    pub(super) async fn changed(&mut self) {
        if let Some(receiver) = &mut self.0
            && receiver.changed().await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}
