//! Dials, drives the link while it lives, and dials again: with pauses that grow, over several servers and versions.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cloud::Credentials;
use super::complaints::Complaints;
use super::isolation::Isolation;
use super::keeping;
use super::memory::SharedMemory;
use super::outcome::{Ended, Failed};
use super::plan::{Plan, PlannedRoute, RouteQos};
use super::renewal::{Renewal, Renewed};
use super::servers::{Servers, Target};
use super::settings::{Retain, Version as Preferred};
use super::status::{self, Status};
use super::takeovers::{Rival, Sign, Takeovers};
use super::trial::Trial;
use super::trouble::Trouble;
use super::vigil::{Seen, Verdict, Vigil};
use crate::broker::delivery::{Delivery, DeliveryQoS, RetainRule, Route};
use crate::broker::link::{self, Answers, Hello, Parting, ReceiveRoute, Welcome};
use crate::broker::{Broker, QueueLimits, SessionSlot};
use crate::clock;
use crate::health::{BridgeHealth, BridgeWarning, HealthTable};
use crate::mqtt::packet::{Connect, Publish, PublishProperties, SubscriptionOptions, Will as ConnectWill};
use crate::mqtt::properties::ForwardableBuilder;
use crate::mqtt::{Millis, Packet, QoS, ReasonCode, TopicFilter, Version, via};
use crate::net::dial::{Means, dial};

/// A link that lived this long was a good one, in milliseconds; or something was acknowledged on it.
const GOOD_MS: u64 = 30_000;
/// How far looks at a link are apart while messages go one by one.
const LOOK: Duration = Duration::from_millis(50);
/// After so long on one link nobody else uses our client id any more, in milliseconds.
const CALM_MS: u64 = 300_000;
/// How long a bridge that stops waits for what is in flight.
const DRAIN: Duration = Duration::from_secs(2);

/// A bridge: its session, from the moment it is made, and what dials for it.
#[derive(Debug)]
pub struct Bridge {
    pub(super) plan: Plan,
    pub(super) broker: Arc<Broker>,
    pub(super) slot: Arc<SessionSlot>,
    pub(super) health: Arc<BridgeHealth>,
    receive: Arc<[ReceiveRoute]>,
    /// Properties of its will, and of what it says of itself.
    mark: ForwardableBuilder,
    subscriptions: Vec<(TopicFilter, SubscriptionOptions)>,
    pub(super) memory: SharedMemory,
    /// The revision of the memory that was kept last.
    kept: AtomicU64,
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
        if plan.cloud.as_ref().is_none_or(|cloud| cloud.preset.is_told_the_way()) {
            slot.mark_with(broker.gateway_id());
        }
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
        let health = health.bridge(&plan.name, move || status::backlog_of(&waiting));
        let mark = slot.mark().map(via::beginning_at).unwrap_or_default();
        let memory = SharedMemory::default();
        memory.set(keeping::load(&slot));
        Ok(Self {
            plan,
            broker: Arc::clone(broker),
            slot,
            health,
            receive,
            mark,
            subscriptions,
            memory,
            kept: AtomicU64::new(0),
        })
    }

    /// The bridge's session.
    pub fn slot(&self) -> &Arc<SessionSlot> {
        &self.slot
    }

    /// Dials until `cancelled`; then says goodbye. Its status is told all the while.
    pub async fn run(self, cancelled: CancellationToken) {
        let status = Status::of(&self.plan, &self.broker, &self.slot, &self.health);
        let ended = CancellationToken::new();
        let supervised = async {
            self.dial(&cancelled).await;
            self.health.stopped();
            ended.cancel();
        };
        tokio::join!(supervised, status.run(ended.clone()));
    }

    /// Dials until `cancelled`; then says goodbye.
    async fn dial(&self, cancelled: &CancellationToken) {
        let renewal = tokio::select! {
            () = cancelled.cancelled() => return,
            renewal = Renewal::load(&self.plan, &self.health) => renewal,
        };
        tokio::select! {
            () = self.supervise(&renewal, cancelled) => {}
            () = renewal.watch() => {}
        }
    }

    async fn supervise(&self, renewal: &Renewal, cancelled: &CancellationToken) {
        let mut supervision = Supervision {
            servers: Servers::new(&self.plan.servers, clock::now()),
            takeovers: Takeovers::default(),
            complaints: Complaints::default(),
            isolation: Isolation::default(),
            next_connect: Instant::now(),
        };
        loop {
            let target = match supervision.servers.next(clock::now()) {
                Ok(target) => target,
                Err(until) => {
                    let mut renewed = renewal.renewed();
                    self.health.waiting(until);
                    tokio::select! {
                        () = cancelled.cancelled() => return,
                        () = renewed.changed() => supervision.servers.hurry(None, clock::now()),
                        () = tokio::time::sleep_until(clock::instant(until)) => {}
                    }
                    continue;
                }
            };
            let connected = tokio::select! {
                () = cancelled.cancelled() => return,
                connected = self.attempt(&target, renewal, &mut supervision) => connected,
            };
            if let Some(connected) = connected {
                self.live(&target, connected, &mut supervision, cancelled).await;
                if cancelled.is_cancelled() {
                    return;
                }
            }
        }
    }

    /// Tries to connect, in 3.1.1 too where the server wants that.
    async fn attempt(&self, target: &Target, renewal: &Renewal, supervision: &mut Supervision) -> Option<Connected> {
        let (bridge, server) = (self.plan.name.as_str(), target.server.to_string());
        let began = clock::now();
        let mut version = self.memory.known(&server).version(self.preferred(), began);
        let interval = self.plan.cloud.as_ref().map_or(Duration::ZERO, |cloud| cloud.rules.connect_interval);
        loop {
            tokio::time::sleep_until(supervision.next_connect).await;
            supervision.next_connect = Instant::now() + interval;
            self.health.connecting(&server, version);
            let (means, renewed) = renewal.means(target.timeout);
            let Failed { error, trouble, hint, moved, is_refusal } =
                match self.connect(target, version, &means, &supervision.isolation).await {
                    Ok((welcome, answers, renew_after)) => {
                        let now = clock::now();
                        self.memory.change(&server, |known| known.worked(version, now));
                        supervision.servers.connected(target, Duration::from_millis(now.since(began)));
                        renewal.accepted(&renewed);
                        return Some(Connected { welcome, answers, version, renewed, renew_after });
                    }
                    Err(failed) => failed,
                };
            let now = clock::now();
            match trouble {
                Trouble::Credentials | Trouble::Busy => self.health.refused(&error),
                _ => self.health.disconnected(&error),
            }
            if let Some(repeated) = supervision.complaints.note(&error, now) {
                if trouble == Trouble::Credentials {
                    tracing::error!(bridge, server, error, repeated, "cannot connect: somebody must change something");
                } else {
                    tracing::warn!(bridge, server, error, repeated, "cannot connect");
                }
            } else {
                tracing::debug!(bridge, server, error, "cannot connect");
            }
            if is_refusal && renewal.refused(&renewed, &error) {
                continue;
            }
            let other = self.memory.change(&server, |known| known.failed(version, hint));
            if let Some(other) = other {
                tracing::info!(bridge, server, "going on with MQTT 3.1.1");
                version = other;
                continue;
            }
            match moved {
                Some(reference) => {
                    if supervision.servers.moved(target, reference.as_deref(), now) {
                        tracing::info!(bridge, server, reference, "the server sends us to another");
                    }
                }
                None => supervision.servers.failed(target, trouble, now),
            }
            return None;
        }
    }

    /// Drives a link until it ends, and judges that.
    async fn live(
        &self,
        target: &Target,
        connected: Connected,
        supervision: &mut Supervision,
        cancelled: &CancellationToken,
    ) {
        let Connected { welcome, answers, version, mut renewed, renew_after } = connected;
        let (bridge, server) = (self.plan.name.as_str(), target.server.to_string());
        tracing::info!(bridge, server, ?version, session_present = welcome.session_present, "bridge connected");
        self.health.connected();
        self.health.set_warning(BridgeWarning::RefusedSubscription, None);
        let (began, acknowledged) = (clock::now(), self.slot.progress().1);
        let course = Course { server: &server, version, answers: &answers, renew_after };
        let end = self.drive(welcome, course, &mut supervision.isolation, cancelled, &mut renewed).await;
        self.note_answers(&server, &answers);
        if cancelled.is_cancelled() {
            return;
        }
        let now = clock::now();
        if let Ended::Renewed(why) = end {
            tracing::info!(bridge, server, why);
            self.health.disconnected(&end.describe());
            supervision.servers.hurry(Some(target), now);
            return;
        }
        let has_acknowledged = self.slot.progress().1 > acknowledged;
        let is_good = has_acknowledged || now.since(began) >= GOOD_MS;
        let sign = match &end {
            Ended::Link(link::End::Peer(Some(ReasonCode::SessionTakenOver))) => Sign::TakenOver,
            Ended::Link(link::End::Peer(None)) if version == Version::V3 && has_acknowledged => Sign::Closed,
            _ => Sign::None,
        };
        let rival = supervision.takeovers.link_ended(sign, began, now);
        let (mut reason, mut trouble) = (end.describe(), end.trouble());
        let parting = answers.parting();
        if let Some(text) = parting.as_ref().and_then(|parting| parting.text.as_ref()) {
            reason = format!("{reason} ({text})");
        }
        match rival {
            Rival::None => {}
            Rival::Perhaps => reason = format!("perhaps another client uses the id {}: {reason}", self.plan.client_id),
            Rival::Certain => {
                reason = format!("another client uses the id {}", self.plan.client_id);
                trouble = Trouble::Rival;
            }
        }
        self.health.disconnected(&reason);
        if rival == Rival::Certain {
            let warning = format!("bridge {bridge}: {reason}");
            self.health.set_warning(BridgeWarning::OtherClient, Some(&warning));
        }
        match supervision.complaints.note(&reason, now) {
            Some(repeated) if rival != Rival::None => tracing::error!(bridge, server, reason, repeated, "link lost"),
            Some(repeated) => tracing::warn!(bridge, server, reason, repeated, "link lost"),
            None => tracing::debug!(bridge, server, reason, "link lost"),
        }
        self.isolate(&end, version, has_acknowledged, &mut supervision.isolation);
        if let Some(Parting { reason: ReasonCode::UseAnotherServer | ReasonCode::ServerMoved, server, .. }) = parting {
            supervision.servers.moved(target, server.as_deref(), now);
            return;
        }
        supervision.servers.lost(target, trouble, is_good && rival == Rival::None, now);
    }

    /// Keeps what has been learnt, for the next process.
    fn keep_memory(&self) {
        let revision = self.memory.revision();
        if self.kept.swap(revision, Ordering::Relaxed) != revision {
            keeping::save(&self.slot, &self.memory.get());
        }
    }

    /// Takes what the server has said of subscriptions.
    fn note_answers(&self, server: &str, answers: &Answers) {
        for (filter, reason) in answers.take_refused() {
            let error = format!("the server refused the subscription to {filter}: {reason}");
            tracing::error!(bridge = self.plan.name, server, error, "nothing comes by this route");
            self.health.note_error(&error);
            let warning = format!("bridge {}: {error}", self.plan.name);
            self.health.set_warning(BridgeWarning::RefusedSubscription, Some(&warning));
        }
        if let Some(subscribed) = answers.take_subscribed() {
            self.memory.change(server, |known| known.subscribed = Some(subscribed));
        }
        self.keep_memory();
    }

    /// The version to begin with.
    fn preferred(&self) -> Version {
        match self.plan.version {
            Preferred::V5 => Version::V5,
            Preferred::V311 => Version::V3,
        }
    }

    async fn connect(
        &self,
        target: &Target,
        version: Version,
        means: &Means,
        isolation: &Isolation,
    ) -> Result<(Welcome, Arc<Answers>, Option<Duration>), Failed> {
        let (plan, server) = (&self.plan, &target.server);
        let credentials =
            plan.cloud.as_ref().and_then(|cloud| cloud.credentials(&server.host, clock::wall_ms().div_euclid(1000)));
        let began = Instant::now();
        let transport = dial(server, means).await.map_err(|error| Failed::to_dial(&error))?;
        let mut connect = Connect::new(version, &plan.client_id);
        connect.clean_start = plan.session_seconds == 0;
        connect.session_expiry_interval = plan.session_seconds;
        connect.keep_alive = plan.keep_alive_seconds;
        let (username, password) = match &credentials {
            Some(Credentials { username, password, .. }) => (Some(username), password.as_ref()),
            None => (plan.username.as_ref(), plan.password.as_ref()),
        };
        connect.username = username.map(String::as_str);
        connect.password = password.map(|password| password.reveal().as_bytes());
        connect.will = plan.will.as_ref().map(|will| ConnectWill {
            topic: will.topic.as_str(),
            payload: will.payload.as_bytes(),
            qos: will.qos,
            retain: will.retain,
            delay_interval: 0,
            message_expiry_interval: None,
            forwardable: self.mark.as_forwardable(),
        });
        let answers = Arc::<Answers>::default();
        let hello = Hello {
            connect,
            subscriptions: &self.subscriptions,
            subscribed: self.memory.known(&server.to_string()).subscribed,
            answers: Arc::clone(&answers),
            birth: self.status_message("online"),
            receive: Arc::clone(&self.receive),
            // All of it together has the time of an attempt.
            timeout: target.timeout.saturating_sub(began.elapsed()),
            hop: self.hop(server, isolation),
            window: self.most_in_flight().into_iter().chain(isolation.window()).min(),
        };
        match link::dial(&self.broker, &self.slot, transport, hello).await {
            Ok(welcome) => Ok((welcome, answers, credentials.and_then(|credentials| credentials.renew_after))),
            Err(link::DialError::Timeout(_)) => Err(Failed::to_greet(link::DialError::Timeout(target.timeout))),
            Err(error) => Err(Failed::to_greet(error)),
        }
    }

    /// Drives a link until it ends, the gateway stops, or there are new certificates to come with.
    async fn drive(
        &self,
        welcome: Welcome,
        course: Course<'_>,
        isolation: &mut Isolation,
        cancelled: &CancellationToken,
        renewed: &mut Renewed,
    ) -> Ended {
        let Welcome { mut link, server_keep_alive, window, .. } = welcome;
        let epoch = link.epoch();
        let window = window.min(self.most_in_flight().unwrap_or(u16::MAX));
        let mut trial = Trial { window, acknowledged: self.slot.progress().1, held_since: None };
        if isolation.is_alone() {
            let now = clock::now();
            self.ping(epoch, now);
            trial.held_since = Some(now);
        }
        let renew_at = Instant::now() + course.renew_after.unwrap_or_default();
        let mut is_renewed = None;
        // 0 is a server that wants to hear nothing; we still want to know whether it is there.
        let keep_alive = server_keep_alive.filter(|seconds| *seconds > 0).unwrap_or(self.plan.keep_alive_seconds);
        let mut vigil = Vigil::new(keep_alive, self.plan.ack_timeout, clock::now());
        let (mut is_stalled, began) = (false, clock::now());
        let end = {
            let mut run = std::pin::pin!(link.run());
            loop {
                tokio::select! {
                    end = &mut run => break end,
                    () = cancelled.cancelled() => {
                        let offline = self.status_message("offline");
                        self.say_goodbye(epoch, course.version, offline, run.as_mut()).await;
                        break link::End::Peer(Some(ReasonCode::Success));
                    }
                    () = tokio::time::sleep_until(renew_at), if course.renew_after.is_some() => {
                        self.say_goodbye(epoch, course.version, None, run.as_mut()).await;
                        is_renewed = Some("connecting anew, before what we are let in by ends");
                        break link::End::Peer(Some(ReasonCode::Success));
                    }
                    () = renewed.changed() => {
                        self.say_goodbye(epoch, course.version, None, run.as_mut()).await;
                        is_renewed = Some("connecting anew with new TLS files");
                        break link::End::Peer(Some(ReasonCode::Success));
                    }
                    () = tokio::time::sleep(if isolation.window().is_some() { LOOK } else { vigil.interval() }) => {
                        self.note_answers(course.server, course.answers);
                        self.follow(&mut trial, epoch, &course, isolation);
                        is_stalled |= self.watch(&mut vigil, epoch) == Verdict::Stalled;
                        if clock::now().since(began) >= CALM_MS {
                            self.health.set_warning(BridgeWarning::OtherClient, None);
                        }
                    }
                }
            }
        };
        link.end(&end).await;
        self.follow(&mut trial, epoch, &course, isolation);
        match end {
            _ if is_stalled => Ended::Stalled(self.plan.ack_timeout),
            end => is_renewed.map_or(Ended::Link(end), Ended::Renewed),
        }
    }

    /// Sends PINGREQ at `now`; what the slot hears from then on has come after it.
    fn ping(&self, epoch: u64, now: Millis) {
        if self.slot.last_heard() >= now {
            // In the same millisecond, and before.
            self.slot.heard(Millis(now.0.saturating_sub(1)));
        }
        let mut bytes = Vec::new();
        Packet::PingReq.encode(Version::V5, &mut bytes);
        self.slot.send(epoch, &bytes);
        self.slot.flush_now();
    }

    /// Looks whether the link is alive, and does what that wants.
    fn watch(&self, vigil: &mut Vigil, epoch: u64) -> Verdict {
        let (in_flight, acknowledged) = self.slot.progress();
        let seen = Seen { heard: self.slot.last_heard(), in_flight, acknowledged };
        let now = clock::now();
        let verdict = vigil.look(seen, now);
        match verdict {
            Verdict::Well => {}
            Verdict::Ping => self.ping(epoch, now),
            Verdict::Silent => self.slot.close(Some(epoch), ReasonCode::KeepAliveTimeout),
            Verdict::Stalled => self.slot.close(Some(epoch), ReasonCode::UnspecifiedError),
        }
        verdict
    }

    /// Lets what is in flight settle for a moment, says `last_words`, then DISCONNECT.
    async fn say_goodbye(
        &self,
        epoch: u64,
        version: Version,
        last_words: Option<Publish<'_>>,
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
        if let Some(last_words) = last_words {
            last_words.encode(version, &mut bytes);
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
        let payload = if status == "offline" { will.payload.as_bytes() } else { will.birth.as_bytes() };
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

/// What a bridge learns while it runs.
struct Supervision {
    servers: Servers,
    takeovers: Takeovers,
    complaints: Complaints,
    isolation: Isolation,
    /// A cloud takes only so many CONNECTs.
    next_connect: Instant,
}

/// A link that is being driven.
pub(super) struct Course<'a> {
    pub(super) server: &'a str,
    version: Version,
    answers: &'a Answers,
    /// When what lets us in ends.
    renew_after: Option<Duration>,
}

/// A link that stands.
struct Connected {
    welcome: Welcome,
    answers: Arc<Answers>,
    version: Version,
    /// When it is to be made anew, because what it was entered with ends.
    renew_after: Option<Duration>,
    renewed: Renewed,
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
            name: match route.envelope.as_ref().and_then(|envelope| envelope.route_name()) {
                Some(name) => name.into(),
                None => route.remap.from().as_str().into(),
            },
            order: u16::try_from(order).unwrap_or(u16::MAX),
            remap: route.remap.clone(),
            except: route.except.clone(),
            payload: route.payload.clone(),
            lane: route.lane,
            expire,
            envelope: route.envelope.clone(),
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
        envelope: route.envelope.clone(),
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
