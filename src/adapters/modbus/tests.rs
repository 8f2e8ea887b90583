//! A whole bus: against units in memory under virtual time, and against servers of another make over TCP and a line.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_modbus::server::Service;
use tokio_modbus::{ExceptionCode, SlaveRequest};
use tokio_serial::{SerialPort, SerialStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::frame::{Exception, Request, Response, Table};
use super::{Bus, Settings, StreamWire, Wire, WireError};
use crate::adapters::handle::Recorder;
use crate::adapters::patience::within;
use crate::adapters::point::Publishing;
use crate::adapters::{Adapter, AdapterHandle};
use crate::clock::testing;
use crate::mqtt::{Message, MessageBuilder, TopicName};
use crate::settings::Located;

const TIMEOUT: Duration = Duration::from_millis(500);

/// Units in memory: what they hold, and what they do not answer to.
#[derive(Clone, Default)]
struct Plant(Arc<Mutex<PlantState>>);

#[derive(Default)]
struct PlantState {
    /// Values by unit, table and address; a bit is 0 or 1.
    values: HashMap<(u8, Table, u16), u16>,
    silent_units: HashSet<u8>,
    silent_addresses: HashSet<u16>,
    is_unreachable: bool,
    requests: Vec<(u8, Request)>,
}

impl Plant {
    fn lock(&self) -> MutexGuard<'_, PlantState> {
        self.0.lock().unwrap()
    }

    fn set(&self, unit: u8, table: Table, start: u16, values: &[u16]) {
        let cells = values.iter().enumerate().map(|(index, value)| ((unit, table, start + index as u16), *value));
        self.lock().values.extend(cells);
    }

    /// Reads so far, as unit, start and count.
    fn reads(&self) -> Vec<(u8, u16, u16)> {
        let read = |(unit, request): &(u8, Request)| match request {
            Request::Read { start, count, .. } => Some((*unit, *start, *count)),
            _ => None,
        };
        self.lock().requests.iter().filter_map(read).collect()
    }
}

impl PlantState {
    /// `None` is silence.
    fn answer(&mut self, unit: u8, request: &Request) -> Option<Result<Response, Exception>> {
        self.requests.push((unit, request.clone()));
        if self.silent_units.contains(&unit) {
            return None;
        }
        let mut write = |table, start: u16, values: &[u16]| {
            for (index, value) in values.iter().enumerate() {
                self.values.insert((unit, table, start + index as u16), *value);
            }
            Some(Ok(Response::Written))
        };
        match request {
            Request::Read { table, start, count } => {
                let addresses = *start..start + count;
                if addresses.clone().any(|address| self.silent_addresses.contains(&address)) {
                    return None;
                }
                let cells = addresses.map(|address| self.values.get(&(unit, *table, address)).copied());
                let Some(cells) = cells.collect::<Option<Vec<u16>>>() else {
                    return Some(Err(Exception::ILLEGAL_ADDRESS));
                };
                Some(Ok(match table.is_bits() {
                    true => Response::Bits(cells.into_iter().map(|cell| cell == 1).collect()),
                    false => Response::Registers(cells),
                }))
            }
            Request::WriteCoil { address, on } => write(Table::Coil, *address, &[u16::from(*on)]),
            Request::WriteRegister { address, value } => write(Table::Holding, *address, &[*value]),
            Request::WriteRegisters { start, values } => write(Table::Holding, *start, values),
            Request::WriteCoils { start, values } => {
                let cells: Vec<u16> = values.iter().map(|on| u16::from(*on)).collect();
                write(Table::Coil, *start, &cells)
            }
        }
    }
}

impl Wire for Plant {
    async fn request(&mut self, unit: u8, request: &Request, deadline: Option<Instant>) -> Result<Response, WireError> {
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(WireError::Late);
        }
        if self.lock().is_unreachable {
            return Err(WireError::Unreachable { endpoint: "plant".into(), reason: "the gate is shut".into() });
        }
        let answer = self.lock().answer(unit, request);
        match answer {
            Some(answer) => {
                sleep(Duration::from_millis(10)).await;
                Ok(answer?)
            }
            None => {
                sleep(TIMEOUT).await;
                Err(WireError::Timeout(TIMEOUT))
            }
        }
    }
}

/// A bus that runs until this is dropped.
struct Running {
    recorder: Arc<Recorder>,
    commands: mpsc::Sender<Message>,
    task: JoinHandle<()>,
    _guard: DropGuard,
}

impl Running {
    fn start<W: Wire>(bus: Bus<W>) -> Self {
        let recorder = Arc::new(Recorder::default());
        let (commands, receiver) = mpsc::channel(64);
        let token = CancellationToken::new();
        let topics = bus.command_topics();
        let handle = AdapterHandle::new("edge".into(), recorder.clone(), topics, receiver, token.clone());
        let task = tokio::spawn(Box::new(bus).run(handle));
        Self { recorder, commands, task, _guard: token.drop_guard() }
    }

    fn command(&self, topic: &str, payload: &str) {
        let topic = TopicName::new(topic).unwrap();
        self.commands.try_send(Message::new(&topic, payload.as_bytes())).unwrap();
    }

    async fn until(&self, topic: &str, payload: &str) {
        self.recorder.until(|published| published.iter().any(|(t, p)| t == topic && p == payload)).await;
    }

    /// Waits until `topic` carried `payload` behind the first `skip` messages.
    async fn until_after(&self, skip: usize, topic: &str, payload: &str) {
        self.recorder.until(|all| all.iter().skip(skip).any(|(t, p)| t == topic && p == payload)).await;
    }

    fn payloads(&self, topic: &str) -> Vec<String> {
        self.recorder.published().into_iter().filter(|(t, _)| t == topic).map(|(_, payload)| payload).collect()
    }
}

fn planned(settings: Json) -> Bus<StreamWire> {
    let settings: Settings = serde_json::from_value(settings).unwrap();
    settings.plan(&Located::nowhere("hall".to_owned()), "edge", &Publishing::default()).unwrap()
}

/// The bus of `devices` on a wire in memory.
fn run_in(plant: &Plant, devices: &Json) -> Running {
    let bus = planned(json!({ "host": "plant", "every": "1s", "devices": devices }));
    Running::start(Bus::new(bus.layout.clone(), plant.clone(), bus.pace))
}

#[tokio::test(start_paused = true)]
async fn a_dead_unit_leaves_the_others_coming_and_is_found_when_it_returns() {
    let plant = Plant::default();
    plant.set(1, Table::Holding, 0, &[7]);
    plant.set(2, Table::Holding, 0, &[8]);
    plant.lock().silent_units.insert(2);
    let bus = run_in(
        &plant,
        &json!({
            "alive": { "id": 1, "points": { "p": { "holding": 0 } } },
            "dead": { "id": 2, "points": { "p": { "holding": 0 } } },
        }),
    );
    bus.until("edge/dead/status", "offline").await;
    assert_eq!(bus.payloads("edge/dead/error"), ["timeout after 500 ms"]);
    let (before, asked_before) = (bus.payloads("edge/alive/p").len(), plant.reads().len());
    sleep(Duration::from_secs(60)).await;
    let readings = bus.payloads("edge/alive/p").len() - before;
    assert!((59..=61).contains(&readings), "{readings} readings in 60 s at one a second");
    let probes = plant.reads()[asked_before..].iter().filter(|(unit, ..)| *unit == 2).count();
    assert!((3..=7).contains(&probes), "{probes} probes in 60 s, with growing pauses");
    assert_eq!(bus.payloads("edge/dead/p"), Vec::<String>::new(), "a failed read publishes nothing");
    plant.lock().silent_units.clear();
    bus.until("edge/dead/p", "8").await;
    assert_eq!(bus.payloads("edge/dead/status"), ["offline", "online"]);
    assert_eq!(bus.payloads("edge/dead/error").last().unwrap(), "");
    assert_eq!(bus.payloads("edge/alive/status"), ["online"]);
}

#[tokio::test(start_paused = true)]
async fn a_merged_read_that_is_refused_is_split_and_stays_so() {
    let plant = Plant::default();
    plant.set(1, Table::Holding, 0, &[1]);
    plant.set(1, Table::Holding, 5, &[2]);
    let points = json!({ "a": { "holding": 0 }, "b": { "holding": 5 } });
    let bus = run_in(&plant, &json!({ "plc": { "id": 1, "points": points } }));
    bus.recorder.until(|all| all.iter().filter(|(topic, _)| topic == "edge/plc/b").count() == 2).await;
    assert_eq!(plant.reads(), [(1, 0, 6), (1, 0, 1), (1, 5, 1), (1, 0, 1), (1, 5, 1)]);
    assert_eq!(bus.payloads("edge/plc/a"), ["1", "1"]);
    assert_eq!(bus.payloads("edge/plc/status"), ["online"]);
}

#[tokio::test(start_paused = true)]
async fn a_merged_read_that_meets_silence_is_split_too() {
    let plant = Plant::default();
    plant.set(1, Table::Holding, 0, &[1, 0, 0, 2]);
    plant.lock().silent_addresses.insert(2);
    let points = json!({ "a": { "holding": 0 }, "b": { "holding": 3 } });
    let bus = run_in(&plant, &json!({ "plc": { "id": 1, "points": points } }));
    bus.until("edge/plc/b", "2").await;
    let merged = (1, 0, 4);
    sleep(Duration::from_secs(10)).await;
    let reads = plant.reads();
    assert_eq!(reads[..5], [merged, merged, merged, (1, 0, 1), (1, 3, 1)], "two retries, then the parts");
    assert!(!reads[5..].contains(&merged), "the split is remembered");
    assert_eq!(bus.payloads("edge/plc/status"), ["online"]);
}

#[tokio::test(start_paused = true)]
async fn a_point_that_does_not_exist_takes_nothing_from_the_others() {
    let plant = Plant::default();
    plant.set(1, Table::Holding, 0, &[1]);
    let points =
        json!({ "there": { "holding": 0 }, "missing": { "holding": 1 }, "gone": { "input": 3, "every": "100ms" } });
    let bus = run_in(&plant, &json!({ "plc": { "id": 1, "points": points } }));
    sleep(Duration::from_secs(10)).await;
    assert!(bus.payloads("edge/plc/there").len() >= 9);
    assert_eq!(bus.payloads("edge/plc/status"), ["online"], "it answers, so it is there");
    assert!(bus.recorder.published().iter().all(|(topic, _)| !topic.ends_with("missing") && !topic.ends_with("gone")));
}

#[tokio::test(start_paused = true)]
async fn a_device_that_refuses_everything_is_offline_and_says_why() {
    let plant = Plant::default();
    let bus = run_in(&plant, &json!({ "plc": { "id": 1, "points": { "p": { "holding": 4 } } } }));
    bus.until("edge/plc/status", "offline").await;
    assert_eq!(bus.payloads("edge/plc/error"), ["exception 2 (illegal data address) at holding 4"]);
}

#[tokio::test(start_paused = true)]
async fn probes_that_meet_the_same_error_at_one_point_after_the_other_are_no_news() {
    let plant = Plant::default();
    let points = json!({ "p": { "holding": 4 }, "q": { "holding": 100 }, "r": { "coil": 5 } });
    let bus = run_in(&plant, &json!({ "plc": { "id": 1, "points": points } }));
    bus.until("edge/plc/status", "offline").await;
    sleep(Duration::from_secs(60)).await;
    plant.lock().silent_units.insert(1);
    bus.until("edge/plc/error", "timeout after 500 ms").await;
    assert_eq!(bus.payloads("edge/plc/error").len(), 2);
    assert_eq!(bus.payloads("edge/plc/status"), ["offline"]);
}

#[tokio::test(start_paused = true)]
async fn a_write_is_answered_and_read_back() {
    let plant = Plant::default();
    plant.set(1, Table::Coil, 5, &[0]);
    plant.set(1, Table::Holding, 0, &[200, 0, 0]);
    let points = json!({
        "pump": { "coil": 5, "write": true },
        "valves": { "coil": 5, "write": true, "function": 15, "topic": "valves" },
        "setpoint": { "holding": 0, "type": "int16", "scale": 0.1, "write": { "min": 5, "max": 35 } },
        "total": { "holding": 1, "type": "uint32", "write": true, "on_change": true },
    });
    let bus = run_in(&plant, &json!({ "plc": { "id": 1, "every": "1h", "points": points } }));
    bus.until("edge/plc/setpoint", "20").await;
    bus.command("edge/plc/pump/set", "on");
    bus.until("edge/plc/pump", "true").await;
    assert_eq!(bus.payloads("edge/plc/pump/set/result"), ["ok"]);
    bus.command("edge/plc/setpoint/set", "21.5");
    bus.until("edge/plc/setpoint", "21.5").await;
    bus.command("edge/plc/total/set", r#"{"value":65536,"id":1}"#);
    bus.until("edge/plc/total", "65536").await;
    assert_eq!(bus.payloads("edge/plc/total/set/result"), [r#"{"id":1,"result":"ok"}"#]);
    bus.command("valves/set", "false");
    bus.until("valves", "false").await;
    bus.command("edge/plc/setpoint/set", "36");
    bus.until("edge/plc/setpoint/set/result", "refused: 36 is above the maximum 35").await;
    bus.command("edge/plc/pump/set", "\"maybe\"");
    bus.until("edge/plc/pump/set/result", r#"refused: "maybe" is neither true nor false"#).await;
    let writes: Vec<Request> = plant.lock().requests.iter().map(|(_, request)| request.clone()).collect();
    let writes: Vec<&Request> = writes.iter().filter(|request| !matches!(request, Request::Read { .. })).collect();
    assert_eq!(
        writes,
        [
            &Request::WriteCoil { address: 5, on: true },
            &Request::WriteRegister { address: 0, value: 215 },
            &Request::WriteRegisters { start: 1, values: vec![1, 0] },
            &Request::WriteCoils { start: 5, values: vec![false] },
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_to_a_silent_unit_fails_in_time_and_is_not_done_later() {
    let plant = Plant::default();
    plant.lock().silent_units.insert(1);
    let device = json!({ "id": 1, "every": "1h", "points": { "pump": { "coil": 5, "write": true } } });
    let bus = run_in(&plant, &json!({ "plc": device }));
    bus.command("edge/plc/pump/set", "true");
    bus.until("edge/plc/pump/set/result", "failed: timeout after 500 ms").await;
    plant.set(1, Table::Coil, 5, &[0]);
    plant.lock().silent_units.clear();
    bus.until("edge/plc/pump", "false").await;
    assert_eq!(plant.lock().values[&(1, Table::Coil, 5)], 0);
}

#[tokio::test(start_paused = true)]
async fn a_write_goes_ahead_of_the_rest_of_a_poll() {
    let plant = Plant::default();
    let mut points = serde_json::Map::new();
    for index in 0..20u16 {
        plant.set(1, Table::Holding, index * 100, &[0]);
        points.insert(format!("p{index}"), json!({ "holding": index * 100, "write": true }));
    }
    let bus = run_in(&plant, &json!({ "plc": { "id": 1, "every": "1h", "points": points } }));
    bus.until("edge/plc/p0", "0").await;
    bus.command("edge/plc/p19/set", "1");
    bus.until("edge/plc/p19/set/result", "ok").await;
    assert!(plant.reads().len() < 5, "the poll has twenty requests");
    bus.until("edge/plc/p18", "0").await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_commands_does_not_starve_the_polls() {
    let plant = Plant::default();
    plant.set(1, Table::Holding, 0, &[0, 0]);
    let points = json!({ "written": { "holding": 0, "write": true, "on_change": true }, "read": { "holding": 1 } });
    let bus = run_in(&plant, &json!({ "plc": { "id": 1, "every": "100ms", "points": points } }));
    let flood = async {
        let topic = TopicName::new("edge/plc/written/set").unwrap();
        loop {
            bus.commands.send(Message::new(&topic, b"1")).await.unwrap();
        }
    };
    let polled = bus.recorder.until(|all| all.iter().filter(|(topic, _)| topic == "edge/plc/read").count() == 20);
    tokio::select! { () = flood => {}, () = polled => {} }
}

#[tokio::test(start_paused = true)]
async fn an_object_carries_what_is_read_together() {
    let _wall = testing::set_wall(1_795_351_208_017, true);
    let plant = Plant::default();
    plant.set(1, Table::Holding, 0, &[1, 0x8000]);
    plant.set(1, Table::Coil, 0, &[1]);
    let points = json!({
        "b": { "holding": 1, "type": "int16", "unavailable": 0x8000 },
        "a": { "holding": 0, "scale": 0.1, "write": true },
        "on": { "coil": 0 },
        "missing": { "input": 9 },
        "plain": { "holding": 0, "payload": "plain" },
    });
    let bus = run_in(&plant, &json!({ "plc": { "id": 1, "every": "1h", "payload": "object", "points": points } }));
    bus.until("edge/plc/plain", "1").await;
    bus.recorder.until(|all| all.iter().any(|(topic, _)| topic == "edge/plc")).await;
    let object: Json = serde_json::from_str(&bus.payloads("edge/plc")[0]).unwrap();
    let keys: Vec<&String> = object.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["b", "a", "on", "time"], "in the order of the file, without what was not read");
    assert_eq!((&object["a"], &object["b"], &object["on"]), (&json!(0.1), &Json::Null, &json!(true)));
    let message = bus.recorder.messages().into_iter().find(|message| message.topic() == "edge/plc").unwrap();
    assert_eq!(message.reading.as_ref().unwrap().point, None);
    assert!(message.retain);
    bus.command("edge/plc/a/set", "0.7");
    bus.recorder.until(|all| all.iter().any(|(topic, p)| topic == "edge/plc" && p.contains(r#""a":0.7"#))).await;
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_unchanged_values_are_published_again() {
    let plant = Plant::default();
    plant.set(1, Table::Holding, 0, &[7]);
    let points = json!({ "p": { "holding": 0, "on_change": true, "max_silence": "1d" } });
    let bus = run_in(&plant, &json!({ "plc": { "id": 1, "points": points } }));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(bus.payloads("edge/plc/p"), ["7"]);
    plant.lock().silent_units.insert(1);
    bus.until("edge/plc/status", "offline").await;
    plant.lock().silent_units.clear();
    bus.recorder.until(|all| all.iter().filter(|(topic, _)| topic == "edge/plc/p").count() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn without_the_wire_every_device_is_offline_until_it_is_back() {
    let plant = Plant::default();
    plant.set(1, Table::Holding, 0, &[1]);
    plant.set(2, Table::Holding, 0, &[2]);
    let bus = run_in(
        &plant,
        &json!({
            "one": { "id": 1, "points": { "p": { "holding": 0 } } },
            "two": { "id": 2, "points": { "p": { "holding": 0, "every": "1d", "write": true } } },
        }),
    );
    bus.until("edge/two/status", "online").await;
    plant.lock().is_unreachable = true;
    bus.until("edge/two/status", "offline").await;
    assert_eq!(bus.payloads("edge/two/error"), ["", "cannot open plant: the gate is shut"]);
    bus.command("edge/two/p/set", "5");
    bus.until("edge/two/p/set/result", "failed: cannot open plant: the gate is shut").await;
    sleep(Duration::from_secs(300)).await;
    let so_far = bus.recorder.published().len();
    plant.lock().is_unreachable = false;
    bus.until_after(so_far, "edge/one/p", "1").await;
    bus.until_after(so_far, "edge/one/status", "online").await;
    bus.command("edge/two/p/set", "5");
    bus.until_after(so_far, "edge/two/p", "5").await;
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_bus_serves_all_devices_alike() {
    let plant = Plant::default();
    let mut devices = serde_json::Map::new();
    for unit in 1..=10u8 {
        plant.set(unit, Table::Holding, 0, &[1]);
        let every = if unit == 1 { "1ms" } else { "20ms" };
        devices.insert(format!("d{unit}"), json!({ "id": unit, "every": every, "points": { "p": { "holding": 0 } } }));
    }
    let bus = run_in(&plant, &Json::Object(devices));
    sleep(Duration::from_secs(10)).await;
    for unit in 1..=10 {
        let count = bus.payloads(&format!("edge/d{unit}/p")).len();
        assert!((90..=110).contains(&count), "device {unit} was read {count} times of 1000");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_is_cancelled_ends() {
    let plant = Plant::default();
    plant.lock().silent_units.insert(1);
    let bus = run_in(&plant, &json!({ "plc": { "id": 1, "points": { "p": { "holding": 0 } } } }));
    sleep(Duration::from_millis(10)).await;
    let Running { task, _guard: guard, recorder: _recorder, commands: _commands } = bus;
    drop(guard);
    within(task, || "the end of the bus".into()).await.unwrap();
}

/// The same plant behind a server of tokio-modbus.
struct Served(Plant);

impl Service for Served {
    type Request = SlaveRequest<'static>;
    type Response = Option<tokio_modbus::Response>;
    type Exception = ExceptionCode;
    type Future = std::future::Ready<Result<Self::Response, ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        use tokio_modbus::{Request as Asked, Response as Said};
        let read = |table, start, count| Request::Read { table, start, count };
        let translated = match &request.request {
            Asked::ReadCoils(start, count) => read(Table::Coil, *start, *count),
            Asked::ReadDiscreteInputs(start, count) => read(Table::Discrete, *start, *count),
            Asked::ReadHoldingRegisters(start, count) => read(Table::Holding, *start, *count),
            Asked::ReadInputRegisters(start, count) => read(Table::Input, *start, *count),
            Asked::WriteSingleCoil(address, on) => Request::WriteCoil { address: *address, on: *on },
            Asked::WriteSingleRegister(address, value) => Request::WriteRegister { address: *address, value: *value },
            Asked::WriteMultipleRegisters(start, values) => {
                Request::WriteRegisters { start: *start, values: values.to_vec() }
            }
            _ => return std::future::ready(Err(ExceptionCode::IllegalFunction)),
        };
        let answer = self.0.lock().answer(request.slave, &translated);
        std::future::ready(match (answer, request.request) {
            (None, _) => Ok(None),
            (Some(Err(_)), _) => Err(ExceptionCode::IllegalDataAddress),
            (Some(Ok(Response::Bits(bits))), Asked::ReadCoils(..)) => Ok(Some(Said::ReadCoils(bits))),
            (Some(Ok(Response::Bits(bits))), _) => Ok(Some(Said::ReadDiscreteInputs(bits))),
            (Some(Ok(Response::Registers(words))), Asked::ReadInputRegisters(..)) => {
                Ok(Some(Said::ReadInputRegisters(words)))
            }
            (Some(Ok(Response::Registers(words))), _) => Ok(Some(Said::ReadHoldingRegisters(words))),
            (Some(Ok(Response::Written)), Asked::WriteSingleCoil(address, on)) => {
                Ok(Some(Said::WriteSingleCoil(address, on)))
            }
            (Some(Ok(Response::Written)), Asked::WriteSingleRegister(address, value)) => {
                Ok(Some(Said::WriteSingleRegister(address, value)))
            }
            (Some(Ok(Response::Written)), Asked::WriteMultipleRegisters(start, values)) => {
                Ok(Some(Said::WriteMultipleRegisters(start, values.len() as u16)))
            }
            (Some(Ok(Response::Written)), _) => Err(ExceptionCode::IllegalFunction),
        })
    }
}

fn served_plant() -> Plant {
    let plant = Plant::default();
    plant.set(1, Table::Input, 0, &[0x4366, 0x199A]);
    plant.set(1, Table::Holding, 10, &[215]);
    plant.set(1, Table::Coil, 5, &[0, 0, 0, 1]);
    plant.set(1, Table::Discrete, 9, &[1]);
    plant.lock().silent_units.insert(2);
    plant
}

fn served_devices() -> Json {
    json!({
        "meter": { "id": 1, "points": {
            "voltage": { "input": 0, "type": "float32", "unit": "V" },
            "setpoint": { "holding": 10, "scale": 0.1, "write": true },
            "total": { "holding": 20, "type": "uint32", "write": true },
            "pump": { "coil": 5, "write": true },
            "fault": { "coil": 8 },
            "door": { "discrete": 9 },
        } },
        "dead": { "id": 2, "points": { "p": { "holding": 0 } } },
    })
}

/// What every wire has to show against a server that somebody else wrote.
async fn reads_and_writes_beside_a_dead_unit(bus: &Running) {
    for (topic, payload) in [
        ("edge/meter/voltage", "230.1"),
        ("edge/meter/setpoint", "21.5"),
        ("edge/meter/pump", "false"),
        ("edge/meter/fault", "true"),
        ("edge/meter/door", "true"),
        ("edge/dead/status", "offline"),
    ] {
        bus.until(topic, payload).await;
    }
    bus.command("edge/meter/pump/set", "true");
    bus.until("edge/meter/pump", "true").await;
    bus.command("edge/meter/setpoint/set", "30");
    bus.until("edge/meter/setpoint", "30").await;
    bus.command("edge/meter/total/set", "70000");
    bus.until("edge/meter/total", "70000").await;
    let so_far = bus.recorder.published().len();
    bus.until_after(so_far, "edge/meter/voltage", "230.1").await;
    assert_eq!(bus.payloads("edge/dead/p"), Vec::<String>::new());
    assert_eq!(bus.payloads("edge/meter/status"), ["online"]);
}

#[tokio::test]
async fn modbus_tcp_reads_and_writes_beside_a_dead_unit() {
    let plant = served_plant();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let connected = |stream, _| {
            let service = Served(plant.clone());
            async move { Ok(Some((service, stream))) }
        };
        tokio_modbus::server::tcp::Server::new(listener).serve(&connected, |_| {}).await
    });
    let settings = json!({ "host": host, "every": "50ms", "timeout": "100ms", "devices": served_devices() });
    reads_and_writes_beside_a_dead_unit(&Running::start(planned(settings))).await;
    server.abort();
}

#[tokio::test]
async fn modbus_rtu_reads_and_writes_beside_a_dead_unit() {
    let (master, slave) = SerialStream::pair().unwrap();
    let port = slave.name().unwrap();
    let server = tokio::spawn(tokio_modbus::server::rtu::Server::new(master).serve_forever(Served(served_plant())));
    let settings = json!({
        "port": port, "baud": 115_200, "every": "50ms", "timeout": "100ms", "devices": served_devices(),
    });
    reads_and_writes_beside_a_dead_unit(&Running::start(planned(settings))).await;
    server.abort();
}

#[tokio::test]
async fn a_retained_command_is_not_executed() {
    let plant = Plant::default();
    plant.set(1, Table::Coil, 5, &[0]);
    let device = json!({ "id": 1, "points": { "pump": { "coil": 5, "write": true } } });
    let bus = run_in(&plant, &json!({ "plc": device }));
    let topic = TopicName::new("edge/plc/pump/set").unwrap();
    bus.commands.send(MessageBuilder::new(&topic, b"true").retain(true).build()).await.unwrap();
    bus.until("edge/plc/pump/set/result", "refused: retained").await;
    bus.until("edge/plc/pump", "false").await;
    assert_eq!(plant.lock().values[&(1, Table::Coil, 5)], 0);
}
