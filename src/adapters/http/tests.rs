//! Tests of [`super`] against devices that speak HTTP on the loopback.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::adapters::handle::Recorder;
use crate::adapters::patience::within;
use crate::adapters::point::Publishing;
use crate::adapters::{Adapter, AdapterHandle};
use crate::mqtt::{Message, MessageBuilder, TopicName};
use crate::settings::Located;

/// Serves `router` on a free port, and tells its URL.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn plan(settings: Json) -> Planned {
    // The first test that comes here installs it; the others find it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings: Settings = serde_json::from_value(settings).unwrap();
    let name = Located::nowhere("plug".to_owned());
    settings.plan(&name, "edge", &Publishing::default(), &Client::default()).map_err(|m| panic!("{m:?}")).unwrap()
}

fn poll(settings: Json) -> Box<dyn Adapter> {
    match plan(settings) {
        Planned::Poll(poll) => poll,
        Planned::Webhook(_) => panic!("a webhook"),
    }
}

struct Running {
    recorder: Arc<Recorder>,
    commands: mpsc::Sender<Message>,
    cancelled: CancellationToken,
    task: JoinHandle<()>,
}

fn run(adapter: Box<dyn Adapter>) -> Running {
    let recorder = Arc::new(Recorder::default());
    let (commands, receiver) = mpsc::channel(8);
    let cancelled = CancellationToken::new();
    let topics = adapter.command_topics();
    let handle = AdapterHandle::new("edge".into(), recorder.clone(), topics, receiver, cancelled.clone());
    Running { recorder, commands, cancelled, task: tokio::spawn(adapter.run(handle)) }
}

impl Running {
    async fn until(&self, topic: &str, payload: &str) {
        let expected = (topic.to_owned(), payload.to_owned());
        self.recorder.until(|published| published.contains(&expected)).await;
    }

    fn payloads(&self, topic: &str) -> Vec<String> {
        self.recorder.published().into_iter().filter(|(to, _)| to == topic).map(|(_, payload)| payload).collect()
    }

    async fn set(&self, topic: &str, payload: &str) {
        let topic = TopicName::new(topic).unwrap();
        self.commands.send(MessageBuilder::new(&topic, payload.as_bytes()).build()).await.unwrap();
    }

    async fn stop(self) {
        self.cancelled.cancel();
        within(self.task, || "the end of the adapter".into()).await.unwrap();
    }
}

/// What a smart plug says, of our own making.
const STATUS: &str = r#"{"id": 0, "output": true, "apower": 48.26, "voltage": 230.1, "aenergy": {"total": 1043.5},
    "temperature": null, "at": "2026-11-22T12:40:08.017Z"}"#;

#[tokio::test]
async fn a_good_answer_becomes_points_with_their_own_time() {
    let url = serve(Router::new().route("/status", get(|| async { STATUS }))).await;
    let running = run(poll(json!({
        "get": format!("{url}/status"), "time": "$.at",
        "points": {
            "on": {"path": "$.output"},
            "power": {"path": "$.apower", "unit": "W", "round": 1},
            "energy": {"path": "$.aenergy.total", "unit": "kWh", "scale": 0.001},
            "temperature": {}, "nothing": {"path": "$.nothing"},
        },
    })));
    running.until("edge/plug/energy", "1.0435").await;
    let expected = [
        ("edge/plug/error", ""),
        ("edge/plug/status", "online"),
        ("edge/plug/on", "true"),
        ("edge/plug/power", "48.3"),
        ("edge/plug/energy", "1.0435"),
    ];
    assert_eq!(running.recorder.published(), expected.map(|(topic, payload)| (topic.to_owned(), payload.to_owned())));
    let messages = running.recorder.messages();
    let reading = messages.last().unwrap().reading.as_ref().unwrap();
    assert_eq!((reading.sampled.time_ms, reading.unit.as_deref()), (1_795_351_208_017, Some("kWh")));
    running.stop().await;
}

#[tokio::test]
async fn a_failed_poll_publishes_nothing_and_says_why() {
    let slow = || async { std::future::pending::<()>().await };
    let huge = || async { vec![b' '; client::MAX_ANSWER_BYTES + 1] };
    let router = Router::new()
        .route("/500", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
        .route("/slow", get(slow))
        .route("/huge", get(huge))
        .route("/bad", get(|| async { "<html>" }))
        .route("/other", get(|| async { r#"{"output": true}"# }))
        .route("/elsewhere", get(|| async { Redirect::temporary("http://elsewhere.example/status") }))
        .route("/round", get(|| async { Redirect::temporary("/round") }));
    let url = serve(router).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (target, reason) in [
        (format!("{url}/500"), "the device answered 500 Internal Server Error"),
        (format!("{url}/404"), "the device answered 404 Not Found"),
        (format!("{url}/slow"), "no answer within 200ms"),
        (format!("{url}/huge"), "the answer is longer than 1024 KB"),
        (serve_without_end().await, "the answer is longer than 1024 KB"),
        (format!("{url}/bad"), "the answer is no JSON: expected value at line 1 column 1"),
        (format!("{url}/other"), "no point found in the answer"),
        (format!("{url}/elsewhere"), "it redirects to http://elsewhere.example, which is not followed"),
        (format!("{url}/round"), "it redirects too often"),
        (format!("http://{free}/"), "cannot connect: Connection refused (os error 111)"),
    ] {
        // Only the silent one may run into the timeout, however busy the machine is.
        let timeout = if target.ends_with("/slow") { "200ms" } else { "1m" };
        let settings = json!({"get": target, "timeout": timeout, "points": {"power": {"path": "$.apower"}}});
        let running = run(poll(settings));
        running.recorder.until(|published| published.len() >= 2).await;
        assert_eq!(running.payloads("edge/plug/error"), [reason], "{target}");
        assert_eq!(running.payloads("edge/plug/status"), ["offline"]);
        assert_eq!(running.payloads("edge/plug/power"), [""; 0]);
        running.stop().await;
    }
}

/// A server that does not say how long its answer is, so that it is the reading that has to stop.
async fn serve_without_end() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/endless", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while stream.write_all(&[b' '; 8192]).await.is_ok() {}
    });
    url
}

#[tokio::test]
async fn a_device_is_offline_after_three_failures_in_a_row() {
    // Answers 1, 2, then fails twice, then 3, then fails for ever.
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = polls.clone();
    let answer = move || {
        let poll = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            match poll {
                0 | 1 | 4 => format!(r#"{{"n": {poll}}}"#).into_response(),
                _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            }
        }
    };
    let url = serve(Router::new().route("/", get(answer))).await;
    let running = run(poll(json!({"get": format!("{url}/"), "every": "10ms", "points": {"n": {}}})));
    running.until("edge/plug/status", "offline").await;
    assert_eq!(running.payloads("edge/plug/n"), ["0", "1", "4"]);
    assert_eq!(running.payloads("edge/plug/status"), ["online", "offline"], "two failures are no outage");
    assert!(polls.load(Ordering::Relaxed) >= 8);
    running.stop().await;
}

#[tokio::test]
async fn a_set_is_a_request_and_the_point_is_read_back_at_once() {
    let on = Arc::new(Mutex::new(false));
    let (status, switch) = (on.clone(), on.clone());
    let router = Router::new()
        .route("/status", get(move || async move { format!(r#"{{"output": {}}}"#, status.lock().unwrap()) }))
        .route(
            "/set",
            get(move |uri: Uri| async move {
                *switch.lock().unwrap() = uri.query() == Some("id=0&on=true");
            }),
        );
    let url = serve(router).await;
    let running = run(poll(json!({
        // It is the command that makes it poll again, not the clock.
        "get": format!("{url}/status"), "every": "1d",
        "points": {
            "on": {"path": "$.output", "type": "bool", "write": {"get": format!("{url}/set?id=0&on={{value}}")}},
            "lamp": {"path": "$.output", "write": {"put": format!("{url}/gone"), "body": "{value}"}},
        },
    })));
    running.until("edge/plug/on", "false").await;
    running.set("edge/plug/on/set", "on").await;
    running.until("edge/plug/on", "true").await;
    running.until("edge/plug/on/set/result", "ok").await;
    running.set("edge/plug/on/set", "maybe").await;
    running.until("edge/plug/on/set/result", "refused: maybe is neither true nor false").await;
    running.set("edge/plug/lamp/set", "1").await;
    running.until("edge/plug/lamp/set/result", "failed: the device answered 404 Not Found").await;
    assert!(*on.lock().unwrap());
    running.stop().await;
}

#[tokio::test]
async fn each_way_to_log_in_is_taken() {
    let asked = |headers: HeaderMap| async move {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let authorization = header("authorization");
        if authorization.starts_with("Digest username=\"admin\", realm=\"plug\", nonce=\"n1\"")
            || authorization == "Basic YWRtaW46c2VjcmV0"
            || authorization == "Bearer secret"
            || header("x-key") == "secret"
        {
            return r#"{"ok": 1}"#.into_response();
        }
        let challenge = r#"Digest realm="plug", qop="auth", nonce="n1", algorithm=SHA-256"#;
        (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response()
    };
    let url = serve(Router::new().route("/", get(asked))).await;
    for (auth, status) in [
        (json!({"basic": "admin", "password": "secret"}), "online"),
        (json!({"digest": "admin", "password": "secret"}), "online"),
        (json!({"bearer": "secret"}), "online"),
        (json!({"header": {"X-Key": "secret"}}), "online"),
        (json!({"bearer": "guess"}), "offline"),
    ] {
        let running = run(poll(json!({"get": format!("{url}/"), "auth": auth})));
        running.until("edge/plug/status", status).await;
        running.stop().await;
    }
}

#[tokio::test]
async fn a_shelly_that_others_met_is_read() {
    let folder = std::env::var_os("EDGEWAY_FIXTURES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from);
    let Ok(status) = std::fs::read_to_string(folder.join("shelly/pro_3em.status.json")) else {
        eprintln!("fixtures not there: skipped");
        return;
    };
    let url = serve(Router::new().route("/rpc/Shelly.GetStatus", get(move || async move { status }))).await;
    let running = run(poll(json!({
        "get": format!("{url}/rpc/Shelly.GetStatus"), "payload": "json", "time": "$.sys.unixtime",
        "points": {
            "power": {"path": r#"$["em:0"].total_act_power"#, "unit": "W"},
            "neutral": {"path": r#"$["em:0"].n_current"#, "unit": "A"},
        },
    })));
    let time = "2025-05-18T09:38:21.000Z";
    let topic = "edge/plug/power";
    let power = json!({"topic": topic, "value": 2413.825, "unit": "W", "time": time, "quality": "good"});
    running.until(topic, &power.to_string()).await;
    let topic = "edge/plug/neutral";
    let neutral = json!({"topic": topic, "value": null, "unit": "A", "time": time, "quality": "bad"});
    running.until(topic, &neutral.to_string()).await;
    running.stop().await;
}

/// A webhook on a free port, and its URL.
async fn hook(settings: Json) -> (Running, String) {
    let Planned::Webhook(hook) = plan(settings) else { panic!("no webhook") };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{}", listener.local_addr().unwrap(), hook.path());
    let hooks = Webhooks::new(listener, vec![hook]);
    assert_eq!(hooks.devices(), ["plug"]);
    (run(Box::new(hooks)), url)
}

/// The status with which a request is answered.
async fn answered(request: reqwest::RequestBuilder) -> u16 {
    within(request.send(), || "an answer".into()).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_post_with_the_token_is_published_and_others_are_refused() {
    let settings = json!({"webhook": "/hooks/:bell*", "token": "s3 cret", "points": {"pressed": {"path": "$.event"}}});
    let (running, url) = hook(settings).await;
    let client = reqwest::Client::new();
    let good = r#"{"event": "ring"}"#;
    let post = || client.post(&url).body(good);
    let too_long = vec![b' '; webhook::MAX_BODY_BYTES + 1];
    for (request, status) in [
        (post(), 401),
        (post().bearer_auth("s3"), 401),
        (client.post(format!("{url}?token=wrong")).body(good), 401),
        (client.get(&url).bearer_auth("s3 cret"), 405),
        (client.post(format!("{url}/more")).bearer_auth("s3 cret").body(good), 404),
        (client.post(&url).bearer_auth("s3 cret").body("event=ring"), 400),
        (client.post(&url).bearer_auth("s3 cret").body(r#"{"other": 1}"#), 400),
        (client.post(&url).bearer_auth("s3 cret").body(too_long), 413),
    ] {
        assert_eq!(answered(request).await, status);
    }
    let recorder = Arc::clone(&running.recorder);
    assert_eq!(recorder.published(), [], "nothing of it is published, and the device is not online");
    for request in [
        post().bearer_auth("s3 cret"),
        post().header("X-Token", "s3 cret"),
        client.post(format!("{url}?a=b&token=s3%20cret")).body(good),
    ] {
        assert_eq!(answered(request).await, 204);
    }
    let rings = ["edge/plug/pressed"; 3].map(|topic| (topic.to_owned(), "ring".to_owned()));
    assert_eq!(
        recorder.published()[..2].iter().map(|(_, payload)| payload.as_str()).collect::<Vec<_>>(),
        ["", "online"]
    );
    assert_eq!(recorder.published()[2..], rings);
    drop(client);
    running.stop().await;
}

#[tokio::test]
async fn without_points_a_body_goes_out_as_it_came() {
    let (running, url) = hook(json!({"webhook": "/h"})).await;
    let client = reqwest::Client::new();
    let text = client.post(&url).header("Content-Type", "text/plain; charset=utf-8").body("door open");
    assert_eq!(answered(text).await, 204);
    let json = client.post(&url).json(&json!({"a": [1, 2]}));
    assert_eq!(answered(json).await, 204);
    let published: Vec<String> = running.recorder.published()[2..].iter().map(|(_, payload)| payload.clone()).collect();
    assert_eq!(published, ["door open", r#"{"a":[1,2]}"#]);
}
