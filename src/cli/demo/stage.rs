//! Sets the stage: devices, cloud, configuration, gateway and observers, in this order, and takes it down again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cloud::Cloud;
use super::configuration::{self, FILE, HOOK, Places, TOKEN};
use super::devices::modbus::{Load, Meter, Relay, Units};
use super::devices::{line, modbus, nmea, plug, webhook};
use super::folder::Folder;
use super::observer::Observer;
use super::ports::Port;
use super::scene::{Event, Scene, Where};
use super::screen::Intro;
use crate::config::{self, Environment};
use crate::gateway::Gateway;
use crate::mqtt::TopicFilter;

/// Events that may wait for the screen; where it is full the observers wait, and behind them their brokers.
const EVENTS: usize = 1024;
/// Until the cloud goes away for the first time.
const FIRST_OUTAGE: Duration = Duration::from_secs(10);
/// How long it stays away.
const OUTAGE: Duration = Duration::from_secs(5);
/// From one outage's beginning to the next. A bridge takes a link that lasted half a minute for a good one and
/// dials without long pauses when it is lost.
const OUTAGES_EVERY: Duration = Duration::from_secs(40);
/// Between two reports of the door.
const DOOR_EVERY: Duration = Duration::from_secs(3);

const METER: Load = Load { watts: 2150.0, swing: 320.0, period: 23.0 };
const HALL: Load = Load { watts: 640.0, swing: 90.0, period: 37.0 };

/// A demo that runs.
pub struct Stage {
    /// What stays the same.
    pub intro: Intro,
    /// What there is to show so far: nothing.
    pub scene: Scene,
    /// What happens.
    pub events: mpsc::Receiver<Event>,
    /// What must be stopped.
    pub running: Running,
}

/// All that runs, in the order in which it is stopped.
pub struct Running {
    gateway: Gateway,
    weather: tokio::task::JoinHandle<Cloud>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _lines: [line::Port; 2],
    _folder: Folder,
}

impl Stage {
    /// Starts everything. Where `steady`, the cloud never goes away.
    ///
    /// # Errors
    /// Which part cannot be started, and why.
    pub async fn set(steady: bool) -> anyhow::Result<Self> {
        let usual = Places::default();
        let open = |port, whom: &str| Port::open(port, whom).with_context(|| format!("cannot open a port for {whom}"));
        let gateway_port = open(usual.gateway, "the gateway")?;
        let cloud_port = open(usual.cloud, "the cloud")?;
        let webhooks_port = open(usual.webhooks, "the gateway's webhook server")?;
        let modbus_port = open(usual.modbus, "the Modbus TCP meter")?;
        let plug_port = open(usual.plug, "the HTTP plug")?;
        let ports = [&gateway_port, &cloud_port, &webhooks_port, &modbus_port, &plug_port];
        let remarks = ports.iter().filter_map(|port| port.remark.clone()).collect();
        let (rtu, rtu_device) = line::Port::open().context("cannot make a serial line")?;
        let (gps, gps_device) = line::Port::open().context("cannot make a serial line")?;
        let places = Places {
            gateway: gateway_port.number(),
            cloud: cloud_port.number(),
            webhooks: webhooks_port.number(),
            modbus: modbus_port.number(),
            plug: plug_port.number(),
            rtu: rtu.path().into(),
            gps: gps.path().into(),
        };

        let folder = Folder::create().context("cannot make a temporary folder")?;
        let file = folder.path().join(FILE);
        std::fs::write(&file, configuration::text(&places))
            .with_context(|| format!("cannot write {}", file.display()))?;
        let configuration = config::read(&file, &Environment::process())
            .map_err(|refused| anyhow::anyhow!("the demo's own configuration is wrong\n{}", refused.render(false)))?;
        let name = configuration.resolved.gateway.clone();
        let routes = configuration.resolved.bridges.iter().flat_map(|bridge| bridge.send.clone()).collect();

        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (events, received) = mpsc::channel(EVENTS);
        let spawn = |task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
            tasks.spawn(stop.clone().run_until_cancelled_owned(task));
        };

        let cloud = Cloud::start(cloud_port.listen()?)?;
        let everything = TopicFilter::new("#").context("a filter")?;
        let observer = Observer::connect(Where::Cloud, cloud.inside()?, &everything).await;
        spawn(Box::pin(observer.context("cannot watch the cloud")?.watch(events.clone())));

        let meters = Units(BTreeMap::from([(1, Meter::new(METER, Relay::Closed, 4711.2))]));
        let serving = modbus::serve_tcp(modbus_port.listen()?, Arc::new(meters));
        spawn(Box::pin(async { ended_early("Modbus TCP meter", serving.await) }));
        let meters = Units(BTreeMap::from([(1, Meter::new(HALL, Relay::None, 815.7))]));
        let serving = modbus::serve_line(rtu_device, Arc::new(meters));
        spawn(Box::pin(async { ended_early("Modbus RTU meter", serving.await) }));
        spawn(Box::pin(async { ended_early("satellite receiver", nmea::drive(gps_device).await) }));
        let serving = plug::serve(plug_port.listen()?, Arc::new(plug::Plug::new(1234.5)));
        spawn(Box::pin(async { ended_early("HTTP plug", serving.await) }));

        gateway_port.give_up();
        webhooks_port.give_up();
        let gateway = Gateway::start(configuration).await.context("cannot start the gateway")?;
        let address = SocketAddr::from(([127, 0, 0, 1], places.gateway));
        let observer = Observer::connect(Where::Here, address, &everything).await;
        spawn(Box::pin(observer.context("cannot watch the gateway")?.watch(events.clone())));
        let url = format!("http://127.0.0.1:{}{HOOK}", places.webhooks);
        spawn(Box::pin(async move { ended_early("door", webhook::report(&url, TOKEN, DOOR_EVERY).await) }));

        let weather = tokio::spawn(weather(cloud, steady, events, stop.clone()));
        let intro = Intro {
            gateway: places.gateway,
            cloud: places.cloud,
            configuration: file.display().to_string(),
            devices: format!(
                "Modbus TCP :{}, RTU {}, NMEA {}, HTTP :{}, webhook :{}",
                places.modbus,
                places.rtu.trim_start_matches("/dev/"),
                places.gps.trim_start_matches("/dev/"),
                places.plug,
                places.webhooks
            ),
            remarks,
            weather: match steady {
                true => "it stays there".into(),
                false => format!(
                    "away for {} s every {} s, then all that waited arrives",
                    OUTAGE.as_secs(),
                    OUTAGES_EVERY.as_secs()
                ),
            },
            program: program(),
        };
        let running = Running { gateway, weather, tasks, stop, _lines: [rtu, gps], _folder: folder };
        Ok(Self { intro, scene: Scene::new(&name, routes), events: received, running })
    }
}

impl Running {
    /// Stops the gateway while its cloud and its devices are still there, then those.
    pub async fn stop(self) {
        self.gateway.stop().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        if let Ok(cloud) = self.weather.await {
            cloud.stop().await;
        }
    }
}

/// Takes the cloud away from time to time, until `stop`; then gives it back, whether it is there or not.
async fn weather(mut cloud: Cloud, steady: bool, events: mpsc::Sender<Event>, stop: CancellationToken) -> Cloud {
    let changing = async {
        if steady {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(FIRST_OUTAGE).await;
        loop {
            // Nobody to tell it to: the demo ends.
            let _ = events.send(Event::CloudGoes(OUTAGE)).await;
            cloud.go_away().await;
            tokio::time::sleep(OUTAGE).await;
            cloud.come_back().await;
            let _ = events.send(Event::CloudReturns).await;
            tokio::time::sleep(OUTAGES_EVERY - OUTAGE).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = changing => {}
    }
    cloud
}

fn ended_early(what: &str, outcome: Result<(), impl std::fmt::Display>) {
    match outcome {
        Ok(()) => tracing::error!(what, "a simulated device ended"),
        Err(error) => tracing::error!(what, %error, "a simulated device ended"),
    }
}

/// How this program was called: by a path, or by its name.
fn program() -> String {
    let called = std::env::args().next().unwrap_or_default();
    if called.contains('/') { called } else { "edgeway".into() }
}
