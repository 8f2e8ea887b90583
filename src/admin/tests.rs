//! A real HTTP client asks.

use super::*;
use crate::broker::Limits;
use crate::health::Backlog;
use crate::store::{Damage, Journal, Report};
use std::net::SocketAddr;

struct World {
    address: SocketAddr,
    health: Arc<HealthTable>,
    statistics: Arc<Statistics>,
    client: reqwest::Client,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl World {
    async fn new(password: Option<&str>) -> Self {
        let broker = Broker::start(Limits::default(), Arc::new(Journal::in_memory()));
        let (health, statistics) = (Arc::<HealthTable>::default(), Arc::<Statistics>::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let admin = Admin {
            broker,
            health: Arc::clone(&health),
            statistics: Some(Arc::clone(&statistics)),
            password: password.map(Secret::new),
            started: Instant::now(),
        };
        let stop = CancellationToken::new();
        let serving = tokio::spawn(admin.serve(listener, stop.clone()));
        // Another may have installed it; without it no client can be made.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { address, health, statistics, client, stop, serving }
    }

    fn ask(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.get(format!("http://{}{path}", self.address))
    }

    async fn healthz(&self) -> (u16, Json) {
        let answer = self.ask("/healthz").send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn metrics(&self) -> String {
        let answer = self.ask("/metrics").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], exposition::CONTENT_TYPE);
        answer.text().await.unwrap()
    }
}

#[tokio::test]
async fn a_promise_that_is_not_kept_is_a_503_with_the_reasons() {
    let world = World::new(None).await;
    let _bridge = world.health.bridge("cloud", || Backlog { queued: 5, ..Backlog::default() });
    let meter = world.health.device("meter");
    let plug = world.health.device("plug");
    meter.online();
    plug.offline("timeout");
    let (status, told) = world.healthz().await;
    // A link that is down and a device that does not answer are no fault of the gateway's.
    let expected = json!({
        "status": "ok",
        "failures": [],
        "warnings": [],
        "store": { "state": "ok" },
        "bridges": { "cloud": { "connected": false, "state": "connecting", "queued": 5, "dropped": 0, "full": false } },
        "devices": { "online": 1, "offline": { "plug": "timeout" } },
    });
    assert_eq!((status, told), (200, expected));

    world.health.store().set_failure(Some("no space left on device"));
    let (status, told) = world.healthz().await;
    assert_eq!((status, &told["status"]), (503, &json!("failed")));
    assert_eq!(told["failures"], json!(["nothing can be committed: no space left on device"]));
    assert_eq!(told["store"], json!({ "state": "failed", "error": "no space left on device" }));

    world.health.store().set_failure(None);
    world.health.store().set_warning("damaged");
    let (status, told) = world.healthz().await;
    assert_eq!((status, &told["status"], &told["warnings"]), (200, &json!("warning"), &json!(["damaged"])));
}

#[tokio::test]
async fn metrics_are_the_numbers_of_those_who_count() {
    let world = World::new(None).await;
    let bridge = world.health.bridge("the \"cloud\"", || Backlog { queued: 5, dropped: 2, ..Backlog::default() });
    bridge.connected();
    let meter = world.health.device("meter");
    meter.add_readings(7);
    world.statistics.appended(9);
    world.statistics.committed(500, 2, Duration::from_millis(1500));
    world.statistics.failed("no space");
    let damage = vec![Damage { file: "f".into(), offset: 0, bytes: 1 }];
    world.statistics.set_found(&Report { torn_bytes: 0, damage, lost_messages: 3 });
    let text = world.metrics().await;
    for line in [
        "edgeway_healthy 1",
        "edgeway_sessions 0",
        "edgeway_mqtt_bytes_total{direction=\"received\"} 0",
        "edgeway_bridge_connected{bridge=\"the \\\"cloud\\\"\"} 1",
        "edgeway_bridge_queued_messages{bridge=\"the \\\"cloud\\\"\"} 5",
        "edgeway_bridge_dropped_messages_total{bridge=\"the \\\"cloud\\\"\"} 2",
        "edgeway_device_online{device=\"meter\"} 0",
        "edgeway_device_readings_total{device=\"meter\"} 7",
        "edgeway_store_durable 1",
        "edgeway_store_failed 1",
        "edgeway_store_records_total 9",
        "edgeway_store_commits_total 1",
        "edgeway_store_commit_failures_total 1",
        "edgeway_store_written_bytes_total 500",
        "edgeway_store_device_written_bytes_total 8192",
        "edgeway_store_commit_longest_seconds 1.5",
        "edgeway_store_lost_messages 3",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn each_family_is_told_once_with_its_help_and_type_before_its_samples() {
    let world = World::new(None).await;
    let _parts = (world.health.bridge("a", Backlog::default), world.health.bridge("b", Backlog::default));
    let _devices = (world.health.device("c"), world.health.device("d"));
    let mut families: Vec<String> = Vec::new();
    for line in world.metrics().await.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(!families.contains(&name.to_owned()) && help.ends_with('.'), "{line}");
            families.push(name.into());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!((name, kind == "counter"), (families.last().unwrap().as_str(), name.ends_with("_total")));
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            assert_eq!(name, families.last().unwrap(), "{line}");
            assert!(line.rsplit_once(' ').unwrap().1.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(families.len() > 50, "{families:?}");
}

#[tokio::test]
async fn with_a_password_nobody_else_learns_more_than_whether_all_is_well() {
    let world = World::new(Some("geheim:1")).await;
    assert_eq!(world.healthz().await, (200, json!({ "status": "ok" })));
    let answer = world.ask("/metrics").send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["www-authenticate"]),
        (401, &"Basic realm=\"edgeway\"".parse::<axum::http::HeaderValue>().unwrap())
    );
    for wrong in ["", "geheim", "geheim:1 ", "Geheim:1"] {
        let answer = world.ask("/metrics").basic_auth("admin", Some(wrong)).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{wrong}");
    }
    let answer = world.ask("/metrics").basic_auth("anybody", Some("geheim:1")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let answer = world.ask("/healthz").basic_auth("", Some("geheim:1")).send().await.unwrap();
    assert_eq!(answer.json::<Json>().await.unwrap()["store"]["state"], "ok");
}

#[tokio::test]
async fn what_is_not_there_is_said_and_it_stops() {
    let world = World::new(None).await;
    let answer = world.ask("/").send().await.unwrap();
    assert_eq!(answer.status(), 404);
    assert!(answer.text().await.unwrap().contains("/healthz and /metrics"));
    let answer = world.client.post(format!("http://{}/healthz", world.address)).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["allow"].to_str().unwrap()), (405, "GET, HEAD"));
    world.stop.cancel();
    world.serving.await.unwrap();
}
