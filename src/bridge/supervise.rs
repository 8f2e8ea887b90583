//! Dials, drives the link while it lives, and dials again: with pauses that grow, over several servers and versions.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::plan::{Plan, PlannedRoute, RouteQos, Server};
use super::settings::{Retain, Version as Preferred};
use crate::broker::delivery::{Delivery, DeliveryQoS, RetainRule, Route};
use crate::broker::link::{self, Hello, ReceiveRoute, Welcome};
use crate::broker::session_slot::{Counts, Hop, SetAside, Waiting};
use crate::broker::{Broker, QueueLimits, SessionSlot};
use crate::clock;
use crate::health::{Backlog, BridgeHealth, HealthTable};
use crate::mqtt::packet::{Connect, Publish, PublishProperties, SubscriptionOptions, Will as ConnectWill};
use crate::mqtt::properties::ForwardableBuilder;
use crate::mqtt::{Packet, QoS, ReasonCode, TopicFilter, Version, via};
use crate::net::dial::dial;
use crate::net::tls;

/// TCP, TLS and CONNACK each get this long.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a bridge that stops waits for what is in flight.
const DRAIN: Duration = Duration::from_secs(2);

/// A bridge: its session, from the moment it is made, and what dials for it.
#[derive(Debug)]
pub struct Bridge {
    plan: Plan,
    broker: Arc<Broker>,
    slot: Arc<SessionSlot>,
    health: Arc<BridgeHealth>,
    receive: Arc<[ReceiveRoute]>,
    /// Properties of its will, and of what it says of itself.
    mark: ForwardableBuilder,
    subscriptions: Vec<(TopicFilter, SubscriptionOptions)>,
}

impl Bridge {
    /// Makes the session and routes messages to it: what is published from now on waits for the link.
    ///
    /// # Errors
    /// Where what waited for it in the process before this one cannot be read.
    pub fn new(plan: Plan, broker: &Arc<Broker>, health: &HealthTable) -> io::Result<Self> {
        let deliveries: Vec<Arc<Delivery>> = plan
            .send
            .iter()
            .enumerate()
            .map(|(order, route)| Arc::new(delivery_of(route, order, plan.expire)))
            .collect();
        let slot = broker.bridge_slot(&plan.name, &deliveries, &plan.lanes)?;
        slot.mark_with(broker.gateway_id());
        slot.set_limits(QueueLimits {
            messages: usize::MAX,
            // It shares what all have besides.
            bytes: plan.queue_bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX),
            when_full: plan.when_full.unwrap_or(broker.budget().when_full()),
        });
        for (route, delivery) in plan.send.iter().zip(deliveries) {
            broker.router.subscribe(&slot, route.remap.from(), delivery);
        }
        broker.send_first_values(&slot);
        let receive = plan.receive.iter().map(receive_route).collect();
        let subscriptions = subscriptions(&plan.receive);
        let waiting = Arc::clone(&slot);
        let health = health.bridge(&plan.name, move || {
            backlog_of(&waiting.waiting(), waiting.last_set_aside())
        });
        let mark = slot.mark().map(via::beginning_at).unwrap_or_default();
        Ok(Self { plan, broker: Arc::clone(broker), slot, health, receive, mark, subscriptions })
    }

    /// The bridge's session.
    pub fn slot(&self) -> &Arc<SessionSlot> {
        &self.slot
    }

    /// Dials until `cancelled`; then says goodbye.
    pub async fn run(self, cancelled: CancellationToken) {
        let bridge = self.plan.name.clone();
        let tls = match self.tls() {
            Ok(tls) => tls,
            Err(error) => {
                tracing::error!(bridge, %error, "bridge cannot start");
                self.health.disconnected(&error.to_string());
                // Its entry goes with it, so it stays to tell why.
                cancelled.cancelled().await;
                return;
            }
        };
        let mut backoff = Backoff::default();
        let mut first = true;
        // Which of the servers, in which version, and how many have not answered in a row.
        let (mut at, mut version, mut silent) = (0, self.preferred(), 0);
        let mut has_spoken_5 = false;
        loop {
            let server = &self.plan.servers[at];
            let attempt = self.connect(server, version, tls.as_ref(), first);
            let connected = tokio::select! {
                () = cancelled.cancelled() => return,
                connected = attempt => connected,
            };
            match connected {
                Ok(welcome) => {
                    tracing::info!(
                        bridge, %server, ?version, session_present = welcome.session_present,
                        "bridge connected"
                    );
                    self.health.connected();
                    first = false;
                    has_spoken_5 |= version == Version::V5;
                    let since = Instant::now();
                    let end = self.drive(welcome, version, &cancelled).await;
                    if cancelled.is_cancelled() {
                        return;
                    }
                    backoff.connected_for(since.elapsed());
                    let reason = describe(&end);
                    tracing::warn!(bridge, %server, reason, "link lost");
                    self.health.disconnected(&reason);
                    (at, version, silent) = (0, self.preferred(), 0);
                }
                Err(Failed { error, version_3 }) => {
                    tracing::warn!(bridge, %server, error, "cannot connect");
                    self.health.disconnected(&error);
                    let try_version_3 = match version_3 {
                        Version3::Wanted => true,
                        Version3::Guessed => !has_spoken_5,
                        Version3::No => false,
                    };
                    if try_version_3 && version == Version::V5 {
                        tracing::info!(bridge, "going on with MQTT 3.1.1");
                        version = Version::V3;
                        continue;
                    }
                    // One that closed without a word may know 5.0 after all, once it is well.
                    (at, version, silent) = ((at + 1) % self.plan.servers.len(), self.preferred(), silent + 1);
                    // The others first, then a pause.
                    if silent < self.plan.servers.len() {
                        continue;
                    }
                    silent = 0;
                }
            }
            tokio::select! {
                () = cancelled.cancelled() => return,
                () = tokio::time::sleep(backoff.pause()) => {}
            }
        }
    }

    /// The version to begin with.
    fn preferred(&self) -> Version {
        match self.plan.version {
            Preferred::V5 => Version::V5,
            Preferred::V311 => Version::V3,
        }
    }

    fn tls(&self) -> Result<Option<Arc<ClientConfig>>, tls::TlsError> {
        if !self.plan.servers.iter().any(|server| server.tls) {
            return Ok(None);
        }
        let files = self.plan.tls.as_ref();
        let ca = files.and_then(|files| files.ca.as_deref());
        let identity = files.and_then(|files| files.identity.as_ref());
        tls::client_config(ca, identity.map(|(certificate, key)| (certificate.as_path(), key.as_path()))).map(Some)
    }

    async fn connect(
        &self,
        server: &Server,
        version: Version,
        tls: Option<&Arc<ClientConfig>>,
        first: bool,
    ) -> Result<Welcome, Failed> {
        let plan = &self.plan;
        let transport = dial(&server.host, server.port, tls.filter(|_| server.tls), DIAL_TIMEOUT)
            .await
            .map_err(|error| Failed { error: error.to_string(), version_3: Version3::No })?;
        let mut connect = Connect::new(version, &plan.client_id);
        connect.clean_start = plan.session_seconds == 0;
        connect.session_expiry_interval = plan.session_seconds;
        connect.keep_alive = plan.keep_alive_seconds;
        connect.username = plan.username.as_deref();
        connect.password = plan.password.as_ref().map(|password| password.reveal().as_bytes());
        connect.will = plan.will.as_ref().map(|will| ConnectWill {
            topic: will.topic.as_str(),
            payload: will.payload.as_bytes(),
            qos: will.qos,
            retain: will.retain,
            delay_interval: 0,
            message_expiry_interval: None,
            forwardable: self.mark.as_forwardable(),
        });
        let hello = Hello {
            connect,
            subscriptions: &self.subscriptions,
            always_subscribe: first,
            birth: self.status_message("online"),
            receive: Arc::clone(&self.receive),
            timeout: DIAL_TIMEOUT,
            hop: Hop { throttling: plan.throttling, ..Hop::default() },
            window: None,
        };
        link::dial(&self.broker, &self.slot, transport, hello).await.map_err(|error| {
            let version_3 = match &error {
                link::DialError::Refused { reason: ReasonCode::UnsupportedProtocolVersion, .. } => Version3::Wanted,
                link::DialError::Closed => Version3::Guessed,
                _ => Version3::No,
            };
            Failed { error: error.to_string(), version_3 }
        })
    }

    /// Drives a link until it ends or the gateway stops.
    async fn drive(&self, welcome: Welcome, version: Version, cancelled: &CancellationToken) -> link::End {
        let Welcome { mut link, server_keep_alive, .. } = welcome;
        let epoch = link.epoch();
        let keep_alive = server_keep_alive.unwrap_or(self.plan.keep_alive_seconds);
        let mut ping = tokio::time::interval(Duration::from_secs(u64::from(keep_alive.max(1))));
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.tick().await;
        let end = {
            let mut run = std::pin::pin!(link.run());
            loop {
                tokio::select! {
                    end = &mut run => break end,
                    () = cancelled.cancelled() => {
                        self.say_goodbye(epoch, version, run.as_mut()).await;
                        break link::End::Peer(Some(ReasonCode::Success));
                    }
                    _ = ping.tick(), if keep_alive > 0 => self.ping(epoch, keep_alive),
                }
            }
        };
        link.end(&end).await;
        end
    }

    /// Keeps the link alive, and ends it where nothing has come for one and a half keep alives.
    fn ping(&self, epoch: u64, keep_alive: u16) {
        if clock::now().since(self.slot.last_heard()) > u64::from(keep_alive) * 1500 {
            self.slot.close(Some(epoch), ReasonCode::KeepAliveTimeout);
            return;
        }
        let mut bytes = Vec::new();
        Packet::PingReq.encode(Version::V5, &mut bytes);
        self.slot.send(epoch, &bytes);
        self.slot.flush_now();
    }

    /// Lets what is in flight settle for a moment, says `offline`, then DISCONNECT.
    async fn say_goodbye(
        &self,
        epoch: u64,
        version: Version,
        mut run: std::pin::Pin<&mut impl Future<Output = link::End>>,
    ) {
        let deadline = Instant::now() + DRAIN;
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while self.slot.backlog() != (0, 0) && Instant::now() < deadline {
            tokio::select! {
                _ = &mut run => return,
                _ = look.tick() => {}
            }
        }
        let mut bytes = Vec::new();
        if let Some(offline) = self.status_message("offline") {
            offline.encode(version, &mut bytes);
        }
        Packet::Disconnect(crate::mqtt::packet::Disconnect::new(ReasonCode::Success)).encode(version, &mut bytes);
        self.slot.send(epoch, &bytes);
        self.slot.flush_now();
        // The server closes when it has read DISCONNECT.
        let _ = tokio::time::timeout(Duration::from_secs(1), run).await;
    }

    /// What the will's topic says of us: `online` after each CONNACK, `offline` before a clean DISCONNECT.
    fn status_message(&self, status: &'static str) -> Option<Publish<'_>> {
        let will = self.plan.will.as_ref()?;
        let payload = if status == "offline" { will.payload.as_bytes() } else { status.as_bytes() };
        Some(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: will.retain,
            topic: will.topic.as_str(),
            packet_id: None,
            properties: PublishProperties::new(None, None, self.mark.as_forwardable()),
            payload,
        })
    }
}

/// What is told of what waits.
fn backlog_of(waiting: &Waiting, last_set_aside: Option<SetAside>) -> Backlog {
    let &Waiting { queued, queued_bytes, oldest, in_flight, set_aside: (set_aside, _), counts, .. } = waiting;
    let Counts { dropped, expired, resent, qos2_resent, qos2_downgraded, .. } = counts;
    Backlog {
        queued,
        queued_bytes,
        oldest,
        in_flight,
        is_full: waiting.is_full(),
        dropped,
        expired,
        resent,
        qos2_resent,
        qos2_downgraded,
        set_aside,
        last_set_aside: last_set_aside.map(|SetAside { topic, reason }| format!("{topic}: {reason}")),
        sent: waiting.sent,
        received: waiting.received,
    }
}

/// Why there is no connection.
struct Failed {
    error: String,
    version_3: Version3,
}

/// Whether the server should be spoken to in 3.1.1 instead.
#[derive(Clone, Copy)]
enum Version3 {
    /// It said so.
    Wanted,
    /// It closed without a word. Some do on a version that they do not know, others because they are not well.
    Guessed,
    No,
}

fn delivery_of(route: &PlannedRoute, order: usize, expire: Option<Duration>) -> Delivery {
    let expire = expire.map(|expire| u64::try_from(expire.as_millis()).unwrap_or(u64::MAX));
    Delivery {
        qos: match route.qos {
            RouteQos::AtMost(qos) => DeliveryQoS::AtMost(qos),
            RouteQos::Exactly(qos) => DeliveryQoS::Exactly(qos),
        },
        retain: match route.retain {
            Retain::Keep => RetainRule::AsPublished,
            Retain::Always => RetainRule::Always,
            Retain::Never => RetainRule::Never,
        },
        // What came in by a bridge never goes back out on it.
        no_local: true,
        identifiers: Vec::new(),
        readable: None,
        share: None,
        route: Some(Arc::new(Route {
            name: route.remap.from().as_str().into(),
            order: u16::try_from(order).unwrap_or(u16::MAX),
            remap: route.remap.clone(),
            except: route.except.clone(),
            payload: route.payload.clone(),
            lane: route.lane,
            expire,
        })),
    }
}

fn receive_route(route: &PlannedRoute) -> ReceiveRoute {
    ReceiveRoute {
        remap: route.remap.clone(),
        except: route.except.clone(),
        max_qos: match route.qos {
            RouteQos::AtMost(qos) | RouteQos::Exactly(qos) => qos,
        },
        retain: match route.retain {
            Retain::Keep => None,
            Retain::Always => Some(true),
            Retain::Never => Some(false),
        },
        max_age: route.max_age.map(|age| u32::try_from(age.as_secs().max(1)).unwrap_or(u32::MAX)),
    }
}

/// What is subscribed: a filter within another is left out, because servers send what several match several times.
fn subscriptions(routes: &[PlannedRoute]) -> Vec<(TopicFilter, SubscriptionOptions)> {
    let qos = |route: &PlannedRoute| match route.qos {
        RouteQos::AtMost(qos) | RouteQos::Exactly(qos) => qos,
    };
    let holds = |route: &PlannedRoute, other: &PlannedRoute| route.remap.from().covers(other.remap.from());
    let outer = routes.iter().filter(|route| !routes.iter().any(|other| holds(other, route) && !holds(route, other)));
    outer
        .map(|route| {
            let highest = routes.iter().filter(|other| holds(route, other)).map(qos).max();
            let options = SubscriptionOptions {
                qos: highest.unwrap_or(qos(route)),
                no_local: true,
                retain_as_published: true,
                ..SubscriptionOptions::default()
            };
            (route.remap.from().clone(), options)
        })
        .collect()
}

fn describe(end: &link::End) -> String {
    match end {
        link::End::Peer(None) => "the server closed the connection".into(),
        link::End::Peer(Some(reason)) => format!("the server said {reason}"),
        link::End::Protocol(error) => format!("the server broke the protocol: {error}"),
        link::End::Transport(error) => error.to_string(),
        link::End::TakenOver => "another connection of this bridge".into(),
        link::End::Closed(ReasonCode::KeepAliveTimeout) => "the server went silent".into(),
        link::End::Closed(reason) => reason.to_string(),
    }
}
