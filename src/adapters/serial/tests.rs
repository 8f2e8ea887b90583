//! Tests of [`super`]: over a pseudo terminal where the port matters, in memory and virtual time where it does not.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use serde_json::json;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::adapters::handle::Recorder;
use crate::adapters::patience::within;
use crate::adapters::point::Publishing;
use crate::clock::testing;
use crate::mqtt::{Message, MessageBuilder, Quality};
use crate::settings::Located;

/// The far end of a port: what a device does to it happens on `device`.
struct Pty {
    device: File,
    path: PathBuf,
}

impl Pty {
    fn open() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let mut termios = tcgetattr(&master).unwrap();
        termios.make_raw();
        tcsetattr(&master, OptionalActions::Now, &termios).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap().into();
        Self { device: master.into(), path }
    }

    fn say(&mut self, text: &str) {
        self.device.write_all(text.as_bytes()).unwrap();
    }
}

/// Reads what goes out on the wire until it is `expected`.
async fn hears(device: &File, expected: &'static str) {
    let mut device = device.try_clone().unwrap();
    let (tell, heard) = oneshot::channel();
    // A thread of its own: the runtime would wait at its end for one of its own threads that hears nothing.
    std::thread::spawn(move || {
        let mut heard = vec![0; expected.len()];
        device.read_exact(&mut heard).unwrap();
        tell.send(String::from_utf8(heard).unwrap())
    });
    assert_eq!(within(heard, || format!("{expected:?} on the wire")).await.unwrap(), expected);
}

struct Running {
    recorder: Arc<Recorder>,
    commands: mpsc::Sender<Message>,
    cancelled: CancellationToken,
    task: JoinHandle<()>,
}

fn serial(settings: serde_json::Value) -> Serial {
    let settings: Settings = serde_json::from_value(settings).unwrap();
    let mut serial = settings.serial(&Located::nowhere("probe".into()), "edge", &Publishing::default()).unwrap();
    serial.backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(10));
    serial
}

fn handle(serial: &Serial) -> (AdapterHandle, Arc<Recorder>, mpsc::Sender<Message>, CancellationToken) {
    let recorder = Arc::new(Recorder::default());
    let (commands, receiver) = mpsc::channel(8);
    let cancelled = CancellationToken::new();
    let handle =
        AdapterHandle::new("edge".into(), recorder.clone(), serial.command_topics(), receiver, cancelled.clone());
    (handle, recorder, commands, cancelled)
}

/// Runs the adapter on the port of its settings.
fn run(serial: Serial) -> Running {
    let (handle, recorder, commands, cancelled) = handle(&serial);
    let task = tokio::spawn(Box::new(serial).run(handle));
    Running { recorder, commands, cancelled, task }
}

/// Runs the adapter on a line in memory.
fn run_in_memory(mut serial: Serial) -> (Running, DuplexStream) {
    let (handle, recorder, commands, cancelled) = handle(&serial);
    let (stream, device) = tokio::io::duplex(1024);
    let task = tokio::spawn(async move {
        let mut handle = handle;
        if let Some(reason) = serial.serve(stream, &mut handle).await {
            serial.offline(reason, &handle);
        }
    });
    (Running { recorder, commands, cancelled, task }, device)
}

impl Running {
    async fn until(&self, topic: &str, payload: &str) {
        let expected = (topic.to_owned(), payload.to_owned());
        self.recorder.until(|published| published.contains(&expected)).await;
    }

    fn payloads(&self, topic: &str) -> Vec<String> {
        self.recorder.published().into_iter().filter(|(to, _)| to == topic).map(|(_, payload)| payload).collect()
    }

    async fn set(&self, payload: &str) {
        let topic = TopicName::new("edge/probe/set").unwrap();
        self.commands.send(MessageBuilder::new(&topic, payload.as_bytes()).build()).await.unwrap();
    }

    async fn ends(self) {
        within(self.task, || "the end of the adapter".into()).await.unwrap();
    }

    async fn stop(self) {
        self.cancelled.cancel();
        self.ends().await;
    }
}

#[tokio::test]
async fn lines_of_json_become_points_and_a_set_goes_out_on_the_wire() {
    let mut pty = Pty::open();
    let running = run(serial(json!({
        "port": pty.path, "baud": 115200, "parse": "json", "write": "OUT {value}\n",
        "points": {"temperature": {"path": "$.t", "unit": "°C"}, "soil_1": {"path": "$.soil[0]"}},
    })));
    pty.say("{\"t\":21.4,\"h\":63,\"soil\":[512,498]}\r\n{\"t\":");
    running.until("edge/probe/soil_1", "512").await;
    assert_eq!(
        running.recorder.published(),
        [
            ("edge/probe/error".to_owned(), String::new()),
            ("edge/probe/status".into(), "online".into()),
            ("edge/probe/temperature".into(), "21.4".into()),
            ("edge/probe/soil_1".into(), "512".into()),
        ]
        .map(|pair: (String, String)| pair)
    );
    running.set("on").await;
    hears(&pty.device, "OUT on\n").await;
    running.until("edge/probe/set/result", "ok").await;
    running.set("1\nFORMAT").await;
    running.until("edge/probe/set/result", "refused: the value has a line break or another control character").await;
    running.stop().await;
}

#[tokio::test]
async fn an_unplugged_port_is_offline_and_comes_back_under_its_configured_path() {
    let folder = tempfile::tempdir().unwrap();
    let by_id = folder.path().join("usb-probe");
    let plug = |pty: &Pty| std::os::unix::fs::symlink(&pty.path, &by_id).unwrap();
    let mut pty = Pty::open();
    plug(&pty);
    let running = run(serial(json!({"port": by_id, "parse": "json", "points": {"t": {}}})));
    pty.say("{\"t\":1}\n");
    running.until("edge/probe/t", "1").await;

    std::fs::remove_file(&by_id).unwrap();
    drop(pty);
    running.until("edge/probe/status", "offline").await;
    let error = format!("cannot open {}: No such file or directory", by_id.display());
    running.until("edge/probe/error", &error).await;

    let mut pty = Pty::open();
    plug(&pty);
    pty.say("{\"t\":2}\n");
    running.until("edge/probe/t", "2").await;
    assert_eq!(running.payloads("edge/probe/status").last().map(String::as_str), Some("online"));
    assert!(running.payloads("edge/probe/error").iter().any(|error| error.contains("is gone")));
    running.stop().await;
}

#[tokio::test]
async fn a_missing_port_leaves_the_adapter_running_and_fails_commands() {
    let running = run(serial(json!({"port": "/nonexistent/port", "write": "{value}\n"})));
    let reason = "cannot open /nonexistent/port: No such file or directory";
    running.until("edge/probe/error", reason).await;
    running.set("1").await;
    running.until("edge/probe/set/result", &format!("failed: {reason}")).await;
    assert!(!running.task.is_finished());
    running.stop().await;
}

#[tokio::test]
async fn a_device_that_is_asked_answers() {
    let pty = Pty::open();
    let mut scale = pty.device.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut question = [0; 3];
        while scale.read_exact(&mut question).is_ok() && &question == b"W\r\n" {
            scale.write_all(b"ST,GS,  12.50 kg\r\n").unwrap();
        }
    });
    let running = run(serial(json!({
        "port": pty.path, "ask": "W\r\n", "every": "20ms", "parse": {"regex": r"(?P<weight>-?\d+\.\d+) kg"},
        "points": {"weight": {"type": "number", "unit": "kg"}},
    })));
    running
        .recorder
        .until(|published| published.iter().filter(|(topic, _)| topic == "edge/probe/weight").count() == 3)
        .await;
    assert!(running.payloads("edge/probe/weight").iter().all(|weight| weight == "12.5"));
    running.stop().await;
}

/// A receiver that finds its fix in its second epoch.
const LOG: &str = "$GPRMC,,V,,,,,,,,,,N*53\r\n$GPGGA,,,,,,0,,,,,,,,*66\r\n\
    $GPRMC,083001,A,3324.5,S,07036.2,W,0.0,,221126,,,A*5C\r\n\
    $GPGGA,083001,3324.5,S,07036.2,W,1,05,1.0,570.5,M,,M,,*59\r\n";

#[tokio::test]
async fn a_receiver_is_online_before_it_has_a_fix_and_then_says_where_it_is() {
    let mut pty = Pty::open();
    let points = json!({"lat": {}, "lon": {}, "satellites": {}, "fix": {}});
    let running = run(serial(json!({"port": pty.path, "parse": "nmea", "points": points})));
    pty.say(LOG);
    running.until("edge/probe/fix", "3d").await;
    let expected =
        [("fix", "none"), ("lat", "-33.40833333"), ("lon", "-70.60333333"), ("satellites", "5"), ("fix", "3d")]
            .map(|(point, payload)| (format!("edge/probe/{point}"), payload.to_owned()));
    assert_eq!(running.recorder.published()[2..], expected);
    running.stop().await;
}

#[tokio::test]
async fn a_drive_that_a_receiver_logged_comes_out_of_the_port() {
    let folder = std::env::var_os("EDGEWAY_FIXTURES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from);
    let Ok(log) = std::fs::read_to_string(folder.join("nmea/drive.nmea")) else {
        eprintln!("fixtures not there: skipped");
        return;
    };
    let pty = Pty::open();
    let points = json!({"lat": {}, "lon": {}, "speed": {"unit": "km/h"}, "satellites": {}});
    let running = run(serial(json!({"port": pty.path, "parse": "nmea", "payload": "object", "points": points})));
    let epochs = log.lines().filter(|line| line.contains("GGA,")).count();
    // `pty` stays here: at its end the system takes back what was not read yet, and gives its name to another.
    let mut device = pty.device.try_clone().unwrap();
    std::thread::spawn(move || device.write_all(log.as_bytes()));
    running
        .recorder
        .until(|published| published.iter().filter(|(topic, _)| topic == "edge/probe").count() == epochs)
        .await;
    let first: serde_json::Value = serde_json::from_str(&running.payloads("edge/probe")[0]).unwrap();
    assert_eq!(
        (&first["lat"], &first["lon"], &first["speed"], &first["satellites"]),
        (&json!(55.08884983), &json!(38.97645542), &json!(282.6152), &json!(9))
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_every_only_the_newest_message_goes_out() {
    let (running, mut device) =
        run_in_memory(serial(json!({"port": "p", "parse": "json", "every": "5s", "points": {"t": {}}})));
    device.write_all(b"{\"t\":1}\n{\"t\":2}\n{\"t\":3}\n{\"other\":0}\n").await.unwrap();
    running.until("edge/probe/t", "3").await;
    device.write_all(b"{\"t\":4}\n").await.unwrap();
    running.until("edge/probe/t", "4").await;
    assert_eq!(running.payloads("edge/probe/t"), ["1", "3", "4"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_sample_is_uncertain_until_the_wall_is_synchronised_and_then_corrected() {
    // From 1970 on, and back from what a dead battery left.
    for started_ms in [0, 3_000_000_000_000] {
        let unsynchronised = testing::set_wall(started_ms, false);
        let (running, mut device) = run_in_memory(serial(json!({
            "port": "p", "parse": "json", "every": "10s", "payload": "json", "points": {"t": {}},
        })));
        let published = |count| {
            running.recorder.until(move |all| all.iter().filter(|(to, _)| to == "edge/probe/t").count() == count)
        };
        device.write_all(b"{\"t\":1}\n").await.unwrap();
        published(1).await;
        let reading = || running.recorder.messages().pop().unwrap().reading.unwrap();
        let first = reading();
        assert!(first.sampled.time_ms - started_ms < 1_000 && !first.sampled.is_certain());
        assert!(running.payloads("edge/probe/t")[0].ends_with(r#""quality":"uncertain"}"#));
        assert_eq!(clock::correct(first.sampled), first.sampled, "nobody knows yet");

        // Sampled before, published after: within `every` there is at most one.
        device.write_all(b"{\"t\":2}\n").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (wall_ms, at) = (1_795_351_208_017, clock::now());
        let synchronised = testing::set_wall(wall_ms, true);
        published(2).await;
        let second = reading();
        assert_eq!((second.overall_quality(), second.sampled.is_certain()), (Quality::Good, true));
        assert!(running.payloads("edge/probe/t")[1].ends_with(r#""quality":"good"}"#));
        let early = first.sampled.uncertain_at.unwrap();
        for (corrected, ago) in [(second.sampled, 1_000), (clock::correct(first.sampled), at.since(early))] {
            let expected = wall_ms - ago as i64;
            assert!(corrected.is_certain() && corrected.time_ms.abs_diff(expected) <= 2, "{corrected:?}, {expected}");
        }
        drop((unsynchronised, synchronised));
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn silence_and_noise_make_a_device_offline_and_a_good_line_online() {
    let points = json!({"t": {"path": "$.t", "on_change": true}});
    let (running, mut device) = run_in_memory(serial(
        json!({"port": "p", "parse": "json", "max_line": "16B", "offline_after": "30s", "points": points}),
    ));
    running.until("edge/probe/error", "nothing received for 30s").await;
    device.write_all(b"garbage\n").await.unwrap();
    let noise = "nothing understood for 30s: no JSON: expected value at line 1 column 1";
    running.until("edge/probe/error", noise).await;
    device.write_all(b"{\"t\":1}\n{\"t\":1, \"overlong\": true}\n").await.unwrap();
    running.until("edge/probe/status", "online").await;
    running.until("edge/probe/error", "nothing understood for 30s: a line is longer than max_line").await;
    device.write_all(b"{\"t\":1}\n").await.unwrap();
    running.recorder.until(|published| published.last().is_some_and(|(topic, _)| topic == "edge/probe/t")).await;
    assert_eq!(running.payloads("edge/probe/t"), ["1", "1"], "after an outage the value goes out again");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_line_that_was_cut_off_is_no_reading() {
    let settings = || json!({"port": "p", "parse": {"regex": r"(?P<kg>[\d.]+) kg"}, "points": {"kg": {}}});
    let (running, mut device) = run_in_memory(serial(settings()));
    device.write_all(b"2.50 kg\n13.50 kg\n").await.unwrap();
    running.until("edge/probe/kg", "13.5").await;
    assert_eq!(running.payloads("edge/probe/kg"), ["13.5"]);
    running.stop().await;

    // A device that was silent when the port was opened begins its line now.
    let (running, mut device) = run_in_memory(serial(settings()));
    tokio::time::sleep(MIDDLE_OF_A_LINE).await;
    device.write_all(b"12.50 kg\n").await.unwrap();
    running.until("edge/probe/kg", "12.5").await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_command_that_the_port_does_not_take_in_time_fails() {
    let (running, _device) = run_in_memory(serial(json!({"port": "p", "write": "{value}"})));
    running.set(&"x".repeat(4096)).await;
    running.until("edge/probe/set/result", "failed: the port did not take it in time").await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn text_without_points_goes_out_as_it_is() {
    let (running, mut device) = run_in_memory(serial(json!({"port": "p", "ask": "?"})));
    device.write_all("21.50 °C\r\n".as_bytes()).await.unwrap();
    running.until("edge/probe", "21.50 °C").await;
    let mut question = [0; 1];
    within(device.read_exact(&mut question), || "the question".into()).await.unwrap();
    assert_eq!(&question, b"?");
    drop(device);
    running.until("edge/probe/error", "p is gone").await;
    running.ends().await;
}
