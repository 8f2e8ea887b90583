//! The picture of the demo: title, table, what to try and what happened, as wide and high as the terminal.

use std::fmt::Write;
use std::time::Duration;

use super::scene::{Cell, Scene, Uplink};
use crate::mqtt::QoS;

/// How long a new value stands out.
const FRESH: Duration = Duration::from_millis(600);
/// From this width on the table says how devices are read, and counts.
const WIDE: usize = 100;
/// From this height on there is room for every remark.
const HIGH: usize = 32;

/// What stays the same while the demo runs.
#[derive(Debug, Clone, Default)]
pub struct Intro {
    /// Port of the gateway's broker.
    pub gateway: u16,
    /// Port of the cloud's.
    pub cloud: u16,
    /// The configuration's path.
    pub configuration: String,
    /// How the devices are reached.
    pub devices: String,
    /// What the user should know: ports that were taken.
    pub remarks: Vec<String>,
    /// What the cloud does, in words.
    pub weather: String,
    /// How to call this program.
    pub program: String,
}

impl Intro {
    /// Commands for another terminal, and what they do.
    pub fn commands(&self) -> Vec<(String, &'static str)> {
        let Self { gateway, cloud, program, .. } = self;
        vec![
            (format!("{program} sub -p {cloud} -t '#' -v"), "all that the cloud gets"),
            (format!("{program} pub -p {gateway} -t demo/meter/relay/set -m false"), "the load goes off"),
            (format!("{program} pub -p {cloud} -t cmd/demo/plug/on -m false"), "and the plug, from the cloud"),
        ]
    }
}

/// How a piece of text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Bold,
    Dim,
    Good,
    Warning,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Warning => "\x1b[33m",
        }
    }
}

/// One line: pieces of text, each with its style.
#[derive(Debug, Default)]
struct Line(Vec<(Style, String)>);

impl Line {
    fn of(style: Style, text: impl Into<String>) -> Self {
        Self(vec![(style, text.into())])
    }

    fn add(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, text.into()));
        self
    }

    /// A column: cut or filled up to `width`, and a blank.
    fn column(self, style: Style, text: &str, width: usize) -> Self {
        let text: String = text.chars().take(width).collect();
        self.add(style, format!("{text:width$} "))
    }

    /// A column of figures, at its right end.
    fn figures(self, style: Style, text: &str, width: usize) -> Self {
        let text: String = text.chars().take(width).collect();
        self.add(style, format!("{text:>width$} "))
    }

    fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// The text of at most `width` characters; with the codes of the styles where `colours`.
    fn render(&self, width: usize, colours: bool) -> String {
        let mut out = String::new();
        let mut left = width;
        for (style, text) in &self.0 {
            let shown: String = text.chars().take(left).collect();
            left -= shown.chars().count();
            if colours && *style != Style::Plain {
                out.push_str(style.code());
                out.push_str(&shown);
                out.push_str("\x1b[0m");
            } else {
                out.push_str(&shown);
            }
        }
        out.truncate(out.trim_end_matches(' ').len());
        out
    }
}

/// The lines of the picture, `now` after the start.
pub fn picture(
    intro: &Intro,
    scene: &Scene,
    now: Duration,
    (width, height): (usize, usize),
    colours: bool,
) -> Vec<String> {
    let mut lines = head(intro, scene, now, (width, height));
    let table = table(intro, scene, now, width);
    let commands = commands(intro, width);
    // Two notes at least; what is left is for blank lines between the parts, then for more notes.
    let needed = lines.len() + table.len() + commands.len() + 2;
    let mut blanks = height.saturating_sub(needed).min(3);
    let mut blank = |lines: &mut Vec<Line>| {
        if blanks > 0 {
            blanks -= 1;
            lines.push(Line::default());
        }
    };
    blank(&mut lines);
    lines.extend(table);
    blank(&mut lines);
    // Where there is no room for all, news are better than advice.
    let room = height.saturating_sub(lines.len() + 1);
    lines.extend(commands.into_iter().take(room));
    blank(&mut lines);
    let room = height.saturating_sub(lines.len());
    let first = scene.notes.len().saturating_sub(room);
    for (at, note) in scene.notes.iter().skip(first) {
        lines.push(Line::of(Style::Dim, format!(" {:>5} ", clock(*at))).add(Style::Plain, note));
    }
    lines.truncate(height);
    lines.iter().map(|line| line.render(width, colours)).collect()
}

fn head(intro: &Intro, scene: &Scene, now: Duration, (width, height): (usize, usize)) -> Vec<Line> {
    let title = Line::of(Style::Bold, " Edgeway demo").add(Style::Plain, "  devices -> gateway -> cloud");
    let end = format!("{}  Ctrl-C ends it ", clock(now));
    let gap = width.saturating_sub(title.width() + end.len());
    let mut lines = vec![title.add(Style::Plain, " ".repeat(gap)).add(Style::Dim, end)];
    // The ports of the two brokers come first; the others are seen among the devices.
    let remarks = if height < HIGH { 2 } else { intro.remarks.len() };
    lines.extend(intro.remarks.iter().take(remarks).map(|remark| Line::of(Style::Warning, format!(" {remark}"))));
    lines.push(Line::of(Style::Dim, " devices  ").add(Style::Plain, &intro.devices));
    lines.push(Line::of(Style::Dim, " config   ").add(Style::Plain, &intro.configuration));
    let waiting = scene.waiting();
    let cloud = Line::of(Style::Dim, " cloud    ");
    lines.push(match scene.uplink {
        Uplink::Up => cloud.add(Style::Good, "up").add(Style::Plain, format!("; {}", intro.weather)),
        Uplink::Away(until) => {
            let seconds = until.saturating_sub(now).as_secs_f64().ceil();
            cloud.add(Style::Warning, format!("away, back in {seconds} s: {waiting} messages wait"))
        }
        Uplink::Returned => {
            cloud.add(Style::Warning, format!("there again: {waiting} messages wait until the gateway notices"))
        }
        Uplink::Draining(count) => {
            let due = scene.due();
            cloud.add(Style::Warning, format!("connected: {} of {count} messages that waited have come", count - due))
        }
    });
    lines
}

fn table(intro: &Intro, scene: &Scene, now: Duration, width: usize) -> Vec<Line> {
    let is_wide = width >= WIDE;
    let (topic, value) = if is_wide { (20, 17) } else { (18, 15) };
    let mut header = Line::of(Style::Plain, " ");
    if is_wide {
        header = header.column(Style::Dim, "read by", 11);
    }
    header = header.column(Style::Dim, &format!("here on {}", intro.gateway), topic);
    header = header.figures(Style::Dim, "value", value);
    header = header.column(Style::Dim, " QoS", 5);
    header = header.column(Style::Dim, &format!("in the cloud on {}", intro.cloud), topic + 3);
    header = header.figures(Style::Dim, "value", value);
    if is_wide {
        header = header.figures(Style::Dim, "came", 6);
    }
    let mut lines = vec![header];
    for row in &scene.rows {
        let mut line = Line::of(Style::Plain, " ");
        if is_wide {
            line = line.column(Style::Dim, row.kind, 11);
        }
        line = line.column(Style::Plain, &row.topic, topic);
        let (text, style) = shown(row.here.as_ref(), now);
        line = line.figures(style, &text, value);
        let qos = row.cloud.as_ref().map(|cell| format!("  {}", cell.qos as u8)).unwrap_or_default();
        line = line.column(Style::Bold, &qos, 5);
        line = line.column(Style::Plain, &row.cloud_topic, topic + 3);
        let (text, style) = match (scene.uplink, scene.waiting_for(row)) {
            (Uplink::Away(_) | Uplink::Returned, _) if row.qos == Some(QoS::AtMostOnce) => {
                ("not kept".into(), Style::Warning)
            }
            // One may just be on its way.
            (Uplink::Up, _) | (_, 0) => shown(row.cloud.as_ref(), now),
            (_, waiting) => (format!("{waiting} waiting"), Style::Warning),
        };
        line = line.figures(style, &text, value);
        if is_wide {
            line = line.figures(Style::Dim, &row.counts.1.to_string(), 6);
        }
        lines.push(line);
    }
    lines
}

fn shown(cell: Option<&Cell>, now: Duration) -> (String, Style) {
    match cell {
        None => ("-".into(), Style::Dim),
        Some(cell) if cell.text == "offline" => (cell.text.clone(), Style::Warning),
        Some(cell) if now.saturating_sub(cell.at) < FRESH => (cell.text.clone(), Style::Bold),
        Some(cell) => (cell.text.clone(), Style::Plain),
    }
}

fn commands(intro: &Intro, width: usize) -> Vec<Line> {
    let commands = intro.commands();
    let widest = commands.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    let labels = std::iter::once(" try ").chain(std::iter::repeat("     "));
    let lines = commands.into_iter().zip(labels).map(|((command, what), label)| {
        let line = Line::of(Style::Dim, label).add(Style::Plain, format!("{command:widest$}"));
        let fits = line.width() + 2 + what.len() <= width;
        if fits { line.add(Style::Dim, format!("  {what}")) } else { line }
    });
    lines.collect()
}

/// Minutes and seconds.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = write!(text, "{}:{:02}", seconds / 60, seconds % 60);
    text
}

#[cfg(test)]
mod tests {
    use super::super::scene::tests::{scene, seen};
    use super::super::scene::{Event, Where};
    use super::*;

    fn intro() -> Intro {
        Intro {
            gateway: 1883,
            cloud: 1884,
            configuration: "/tmp/edgeway-demo-812/edgeway.yaml".into(),
            devices: "Modbus TCP :1502, RTU pts/3, NMEA pts/4, HTTP :8090, webhook :8081".into(),
            remarks: vec!["port 1883 is taken by mosquitto (process 812), so the gateway listens on 41883".into()],
            weather: "away for 5 s every 40 s, then all that waited arrives".into(),
            program: "edgeway".into(),
        }
    }

    fn playing() -> Scene {
        let mut scene = scene();
        let at = Duration::from_secs(61);
        for (place, topic, payload, qos) in [
            (Where::Here, "demo/meter/power", "2134.2", QoS::AtLeastOnce),
            (Where::Cloud, "berlin/meter/power", "2134.2", QoS::AtLeastOnce),
            (Where::Here, "demo/spare/status", "offline", QoS::AtLeastOnce),
            (Where::Here, "demo/spare/error", "timeout after 300 ms", QoS::AtLeastOnce),
            (Where::Here, "demo/gps", r#"{"lat":52.47,"lon":13.4}"#, QoS::AtMostOnce),
            (Where::Cloud, "fleet/demo", r#"{"lat":52.47,"lon":13.4}"#, QoS::AtMostOnce),
            (Where::Cloud, "berlin/door/openings", "7", QoS::ExactlyOnce),
        ] {
            scene.handle(&seen(place, topic, payload, qos), at);
        }
        scene
    }

    #[test]
    fn the_picture_of_80_by_24() {
        let mut scene = playing();
        scene.handle(&Event::CloudGoes(Duration::from_secs(5)), Duration::from_secs(62));
        let picture = picture(&intro(), &scene, Duration::from_millis(63_500), (80, 24), false);
        insta::assert_snapshot!(picture.join("\n"));
    }

    #[test]
    fn the_picture_of_120_by_40() {
        let picture = picture(&intro(), &playing(), Duration::from_secs(62), (120, 40), false);
        insta::assert_snapshot!(picture.join("\n"));
    }

    #[test]
    fn it_fits_into_any_terminal() {
        let scene = playing();
        for width in [1, 2, 20, 79, 80, 99, 100, 300] {
            for height in [1, 2, 5, 10, 23, 24, 25, 100] {
                let lines = picture(&intro(), &scene, Duration::from_secs(62), (width, height), false);
                assert!(lines.len() <= height, "{width}x{height}: {} lines", lines.len());
                assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}x{height}");
            }
        }
    }

    #[test]
    fn colours_change_nothing_but_the_colour() {
        let (scene, size) = (playing(), (100, 30));
        let plain = picture(&intro(), &scene, Duration::from_secs(61), size, false);
        let coloured = picture(&intro(), &scene, Duration::from_secs(61), size, true);
        assert_ne!(plain, coloured);
        let codes = regex::Regex::new("\x1b\\[[0-9]*m").unwrap();
        let stripped: Vec<String> =
            coloured.iter().map(|line| codes.replace_all(line, "").trim_end().to_owned()).collect();
        assert_eq!(plain, stripped);
    }
}
