//! What there is to show: the newest value of each point here and in the cloud, and what has happened.

use std::collections::VecDeque;
use std::time::Duration;

use super::ledger::Ledger;
use crate::bridge::plan::PlannedRoute;
use crate::mqtt::{Message, QoS};

/// Notes that are kept for the screen.
const MAX_NOTES: usize = 100;
/// A note that repeats the last one within this time is left out.
const REPEATED: Duration = Duration::from_secs(2);
/// The longest text that is shown of a payload, in characters.
const MAX_TEXT: usize = 60;

/// On which broker a message was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// On the gateway's.
    Here,
    /// On the one that plays the cloud.
    Cloud,
}

/// A message that one of the two brokers delivered.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Which one.
    pub at: Where,
    /// Its topic there.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Its QoS there.
    pub qos: QoS,
    /// Whether it had been published before we subscribed.
    pub retained: bool,
}

/// What happens in the demo.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A broker delivered a message.
    Seen(Seen),
    /// The cloud goes away for this long.
    CloudGoes(Duration),
    /// The cloud is there again.
    CloudReturns,
}

/// How the cloud is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uplink {
    /// It is there.
    Up,
    /// It is away until this time.
    Away(Duration),
    /// It is there again, and the bridge has not noticed yet.
    Returned,
    /// What waited for it arrives: this many at first.
    Draining(usize),
}

/// A line of the table: one point.
#[derive(Debug, Clone)]
pub struct Row {
    /// How its device is read.
    pub kind: &'static str,
    /// Its topic here.
    pub topic: String,
    /// Its topic in the cloud.
    pub cloud_topic: String,
    /// The QoS of its way there.
    pub qos: Option<QoS>,
    unit: &'static str,
    /// Its newest value here.
    pub here: Option<Cell>,
    /// Its newest value in the cloud.
    pub cloud: Option<Cell>,
    /// How often it came here and there.
    pub counts: (u64, u64),
}

/// A value that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// As people read it, with its unit.
    pub text: String,
    /// When it came, after the start.
    pub at: Duration,
    /// The QoS that it came with.
    pub qos: QoS,
}

/// How many messages came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// To the gateway's broker.
    pub here: u64,
    /// To the cloud, by QoS.
    pub cloud: [u64; 3],
    /// Times that the cloud was away.
    pub outages: u64,
    /// Messages that waited for it and arrived.
    pub waited: u64,
    /// Messages that were overtaken or lost.
    pub skipped: u64,
}

/// All that there is to show.
#[derive(Debug)]
pub struct Scene {
    /// The table.
    pub rows: Vec<Row>,
    /// How the cloud is.
    pub uplink: Uplink,
    /// The sums.
    pub counts: Counts,
    /// What happened, with its time after the start; the newest last.
    pub notes: VecDeque<(Duration, String)>,
    routes: Vec<PlannedRoute>,
    ledger: Ledger,
    gateway: String,
}

/// The rows of the table: how the device is read, the topic below the gateway's, and the unit.
const ROWS: [(&str, &str, &str); 12] = [
    ("Modbus TCP", "meter/power", " W"),
    ("", "meter/voltage", " V"),
    ("", "meter/energy", " kWh"),
    ("", "meter/relay", ""),
    ("Modbus RTU", "hall/power", " W"),
    ("  dead unit", "spare/status", ""),
    ("NMEA serial", "gps", ""),
    ("HTTP", "plug/on", ""),
    ("", "plug/power", " W"),
    ("Webhook", "door/open", ""),
    ("", "door/openings", ""),
    ("The gateway", "status", ""),
];

/// The devices of the demo. What others publish is noted.
const DEVICES: [&str; 6] = ["meter", "hall", "spare", "gps", "plug", "door"];

impl Scene {
    /// Nothing has come yet. `routes` are those of the bridge, `gateway` is the gateway's name.
    pub fn new(gateway: &str, routes: Vec<PlannedRoute>) -> Self {
        let mut scene = Self {
            rows: Vec::new(),
            uplink: Uplink::Up,
            counts: Counts::default(),
            notes: VecDeque::new(),
            routes,
            ledger: Ledger::default(),
            gateway: gateway.into(),
        };
        scene.rows = ROWS
            .map(|(kind, topic, unit)| {
                let topic = format!("{gateway}/{topic}");
                let (cloud_topic, qos) = scene.route(&topic).unzip();
                let cloud_topic = cloud_topic.unwrap_or_default();
                Row { kind, topic, cloud_topic, qos, unit, here: None, cloud: None, counts: (0, 0) }
            })
            .into();
        scene
    }

    /// Takes in what happened `at` this time after the start. What follows from it and is not said by the event
    /// itself is returned in words.
    pub fn handle(&mut self, event: &Event, at: Duration) -> Option<String> {
        let news = match event {
            Event::CloudGoes(pause) => {
                self.uplink = Uplink::Away(at + *pause);
                self.counts.outages += 1;
                let seconds = pause.as_secs();
                Some(format!("the cloud goes away for {seconds} s; messages of QoS 1 and 2 wait for it"))
            }
            Event::CloudReturns => {
                self.uplink = Uplink::Returned;
                let waiting = self.ledger.waiting();
                Some(format!("the cloud is there again; {waiting} messages wait until the gateway has noticed"))
            }
            Event::Seen(seen) => {
                self.note(seen, at);
                match seen.at {
                    Where::Here => self.handle_here(seen, at),
                    Where::Cloud => self.handle_cloud(seen, at),
                }
                self.drained()
            }
        };
        if let Some(news) = &news {
            self.add_note(at, news.clone());
        }
        news
    }

    /// Messages that wait for the cloud.
    pub fn waiting(&self) -> usize {
        self.ledger.waiting()
    }

    /// Messages of the row that wait for the cloud.
    pub fn waiting_for(&self, row: &Row) -> usize {
        self.ledger.waiting_for(&row.cloud_topic)
    }

    /// Messages that waited when the cloud came back and have not arrived yet.
    pub fn due(&self) -> usize {
        self.ledger.due()
    }

    fn handle_here(&mut self, seen: &Seen, at: Duration) {
        self.counts.here += 1;
        if let Some((topic, qos)) = self.route(&seen.topic)
            && qos > QoS::AtMostOnce
        {
            self.ledger.sent(&topic, &seen.payload);
        }
        if let Some(row) = self.rows.iter_mut().find(|row| row.topic == seen.topic) {
            row.here = Some(row.cell(seen, at));
            row.counts.0 += 1;
        }
    }

    fn handle_cloud(&mut self, seen: &Seen, at: Duration) {
        self.counts.cloud[seen.qos as usize] += 1;
        if self.uplink == Uplink::Returned {
            self.uplink = Uplink::Draining(self.ledger.mark());
        }
        self.ledger.arrived(&seen.topic, &seen.payload);
        if let Some(row) = self.rows.iter_mut().find(|row| row.cloud_topic == seen.topic) {
            row.cloud = Some(row.cell(seen, at));
            row.counts.1 += 1;
        }
    }

    /// Says so when all that waited for the cloud has arrived.
    fn drained(&mut self) -> Option<String> {
        let Uplink::Draining(count) = self.uplink else { return None };
        if self.ledger.due() > 0 {
            return None;
        }
        self.uplink = Uplink::Up;
        self.counts.waited += count as u64;
        let skipped = self.ledger.skipped();
        self.counts.skipped += skipped as u64;
        Some(match skipped {
            0 => format!("{count} messages had waited for the cloud: all have arrived, in order"),
            _ => format!("{count} messages had waited for the cloud: {skipped} of them were overtaken or lost"),
        })
    }

    /// Where a message goes in the cloud, and with which QoS.
    fn route(&self, topic: &str) -> Option<(String, QoS)> {
        // What a bridge says of itself does not go out by it, nor do commands by a wildcard.
        if topic.split('/').nth(1) == Some("bridges") || topic.ends_with("/set") {
            return None;
        }
        let mut to = String::new();
        let route = self.routes.iter().find(|route| route.remap.apply(topic, &mut to))?;
        Some((to, route.qos.of(QoS::AtLeastOnce)))
    }

    /// Notes what the table does not show: commands and their results, devices that fail, and what others publish.
    fn note(&mut self, seen: &Seen, at: Duration) {
        let Seen { topic, payload, retained, .. } = seen;
        let text = text_of(payload);
        let below = topic.strip_prefix(self.gateway.as_str()).and_then(|rest| rest.strip_prefix('/'));
        let device = below.and_then(|below| below.split('/').next()).unwrap_or_default();
        let note = match seen.at {
            _ if *retained => return,
            Where::Here if topic.ends_with("/set") || topic.ends_with("/set/result") => format!("{topic} = {text}"),
            Where::Here if topic.ends_with("/error") && !text.is_empty() => format!("{device} is offline: {text}"),
            Where::Here if below == Some("status") || DEVICES.contains(&device) => return,
            Where::Here => format!("{topic} = {text}"),
            Where::Cloud if self.rows.last().is_some_and(|row| row.cloud_topic == *topic) => {
                format!("the cloud hears that the gateway is {text}")
            }
            Where::Cloud if self.is_sent(topic) => return,
            Where::Cloud => format!("in the cloud: {topic} = {text}"),
        };
        self.add_note(at, note);
    }

    /// Whether a topic of the cloud is one that the bridge sends to.
    fn is_sent(&self, topic: &str) -> bool {
        self.routes.iter().any(|route| route.remap.to().unwrap_or(route.remap.from()).matches(topic))
    }

    fn add_note(&mut self, at: Duration, note: String) {
        // A birth message and the status itself say the same.
        if self.notes.back().is_some_and(|(last, text)| *text == note && at.saturating_sub(*last) < REPEATED) {
            return;
        }
        self.notes.push_back((at, note));
        if self.notes.len() > MAX_NOTES {
            self.notes.pop_front();
        }
    }
}

impl Seen {
    /// What a broker delivered.
    pub fn new(at: Where, message: &Message) -> Self {
        Self {
            at,
            topic: message.topic().into(),
            payload: message.payload().into(),
            qos: message.qos,
            retained: message.retain,
        }
    }
}

impl Row {
    fn cell(&self, seen: &Seen, at: Duration) -> Cell {
        let mut text = text_of(&seen.payload);
        if !text.is_empty() {
            text.push_str(self.unit);
        }
        Cell { text, at, qos: seen.qos }
    }
}

/// A payload as people read it: a position in short, any other text without what could upset a terminal.
pub fn text_of(payload: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(payload) else { return format!("{} bytes", payload.len()) };
    if let Ok(json) = serde_json::from_str::<serde_json::Value>(text)
        && let (Some(lat), Some(lon)) = (json["lat"].as_f64(), json["lon"].as_f64())
    {
        return format!("{lat:.4} {lon:.4}");
    }
    let mut shown: String = text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::bridge::plan::RouteQos;
    use crate::bridge::settings::Retain;
    use crate::mqtt::{Remap, TopicFilter};
    use crate::settings::Place;

    fn route(from: &str, to: &str, qos: QoS) -> PlannedRoute {
        let filter = |text| TopicFilter::new(text).unwrap();
        PlannedRoute {
            remap: Remap::new(filter(from), Some(filter(to))).unwrap(),
            qos: RouteQos::Exactly(qos),
            retain: Retain::Keep,
            except: Vec::new(),
            max_age: None,
            payload: crate::mapping::hop_payload::HopPayload::default(),
            lane: 0,
            envelope: None,
            place: Place::default(),
        }
    }

    /// A scene with the routes of the demo.
    pub fn scene() -> Scene {
        let routes = vec![
            route("demo/gps", "fleet/demo", QoS::AtMostOnce),
            route("demo/door/#", "berlin/door/#", QoS::ExactlyOnce),
            route("demo/#", "berlin/#", QoS::AtLeastOnce),
        ];
        Scene::new("demo", routes)
    }

    /// A message that is not retained.
    pub fn seen(at: Where, topic: &str, payload: &str, qos: QoS) -> Event {
        Event::Seen(Seen { at, topic: topic.into(), payload: payload.into(), qos, retained: false })
    }

    #[test]
    fn a_point_is_shown_here_and_under_its_topic_in_the_cloud() {
        let mut scene = scene();
        let second = Duration::from_secs(1);
        assert_eq!(scene.handle(&seen(Where::Here, "demo/meter/power", "2134.2", QoS::AtLeastOnce), second), None);
        assert_eq!(scene.waiting(), 1);
        scene.handle(&seen(Where::Cloud, "berlin/meter/power", "2134.2", QoS::AtLeastOnce), second);
        scene.handle(&seen(Where::Here, "demo/gps", r#"{"lat":52.47,"lon":13.4}"#, QoS::AtLeastOnce), second);
        assert_eq!(scene.waiting(), 0, "QoS 0 does not wait");
        let row = &scene.rows[0];
        assert_eq!(row.cloud_topic, "berlin/meter/power");
        assert_eq!(row.here.as_ref().unwrap().text, "2134.2 W");
        assert_eq!(row.cloud.as_ref().unwrap().qos, QoS::AtLeastOnce);
        let gps = scene.rows.iter().find(|row| row.topic == "demo/gps").unwrap();
        assert_eq!(gps.here.as_ref().unwrap().text, "52.4700 13.4000");
        assert_eq!(gps.cloud_topic, "fleet/demo");
        assert!(scene.notes.is_empty(), "{:?}", scene.notes);
    }

    #[test]
    fn an_outage_is_told_to_its_end() {
        let mut scene = scene();
        let at = Duration::from_secs(10);
        assert!(scene.handle(&Event::CloudGoes(Duration::from_secs(5)), at).is_some());
        for number in ["1", "2"] {
            scene.handle(&seen(Where::Here, "demo/door/openings", number, QoS::AtLeastOnce), at);
        }
        scene.handle(&Event::CloudReturns, at);
        let online = seen(Where::Cloud, "berlin/status", "online", QoS::AtMostOnce);
        assert_eq!(scene.handle(&online, at), None);
        assert_eq!((scene.uplink, scene.due()), (Uplink::Draining(2), 2));
        scene.handle(&seen(Where::Cloud, "berlin/door/openings", "1", QoS::ExactlyOnce), at);
        let news = scene.handle(&seen(Where::Cloud, "berlin/door/openings", "2", QoS::ExactlyOnce), at);
        assert_eq!(news.unwrap(), "2 messages had waited for the cloud: all have arrived, in order");
        assert_eq!((scene.uplink, scene.counts.waited), (Uplink::Up, 2));
    }

    #[test]
    fn what_the_table_does_not_show_is_noted() {
        let mut scene = scene();
        for (at, topic, payload) in [
            (Where::Here, "demo/meter/relay/set", "false"),
            (Where::Here, "demo/meter/relay/set/result", "ok"),
            (Where::Here, "demo/spare/error", "timeout"),
            (Where::Here, "demo/meter/current", "3"),
            (Where::Here, "demo/mine", "a\u{1b}[2Jb"),
            (Where::Cloud, "berlin/meter/error", ""),
            (Where::Cloud, "cmd/demo/plug/on", "true"),
        ] {
            scene.handle(&seen(at, topic, payload, QoS::AtMostOnce), Duration::ZERO);
        }
        let notes: Vec<&str> = scene.notes.iter().map(|(_, note)| note.as_str()).collect();
        assert_eq!(
            notes,
            [
                "demo/meter/relay/set = false",
                "demo/meter/relay/set/result = ok",
                "spare is offline: timeout",
                "demo/mine = a [2Jb",
                "in the cloud: cmd/demo/plug/on = true"
            ]
        );
    }

    #[test]
    fn a_payload_is_shown_in_bounds() {
        assert_eq!(text_of(&[0xFF, 0]), "2 bytes");
        assert_eq!(text_of("ä".repeat(100).as_bytes()), format!("{}...", "ä".repeat(60)));
    }
}
