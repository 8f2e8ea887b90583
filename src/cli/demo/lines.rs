//! The demo where there is no terminal: one line per event, and a summary at the end.

use std::io::{self, Write};
use std::time::Duration;

use super::scene::{Event, Scene, Seen, Uplink, Where, text_of};
use super::screen::Intro;

/// Writes lines.
#[derive(Debug)]
pub struct Lines<W> {
    out: W,
}

impl<W: Write> Lines<W> {
    /// To `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// What runs, and what can be tried.
    ///
    /// # Errors
    /// Where nobody reads.
    pub fn intro(&mut self, intro: &Intro) -> io::Result<()> {
        let Intro { gateway, cloud, configuration, devices, remarks, weather, .. } = intro;
        writeln!(self.out, "Edgeway demo: devices -> gateway -> cloud")?;
        for remark in remarks {
            writeln!(self.out, "{remark}")?;
        }
        writeln!(self.out, "gateway  mqtt://127.0.0.1:{gateway}, configured by {configuration}")?;
        writeln!(self.out, "cloud    mqtt://127.0.0.1:{cloud}; {weather}")?;
        writeln!(self.out, "devices  {devices}")?;
        writeln!(self.out, "Try in another terminal:")?;
        for (command, what) in intro.commands() {
            writeln!(self.out, "  {command}    # {what}")?;
        }
        Ok(())
    }

    /// One event, and the news that it brings.
    ///
    /// # Errors
    /// Where nobody reads.
    pub fn event(&mut self, event: &Event, news: Option<&str>, at: Duration) -> io::Result<()> {
        let seconds = at.as_secs_f64();
        if let Event::Seen(Seen { at, topic, payload, qos, retained }) = event {
            let whence = match at {
                Where::Here if *retained => "here, retained".into(),
                Where::Here => "here".into(),
                Where::Cloud => format!("cloud, QoS {}", *qos as u8),
            };
            writeln!(self.out, "{seconds:7.2} s  {whence:14}  {topic} = {}", text_of(payload))?;
        }
        if let Some(news) = news {
            writeln!(self.out, "{seconds:7.2} s  {:14}  {news}", "--")?;
        }
        self.out.flush()
    }
}

/// What came of it, in two or three lines.
///
/// # Errors
/// Where nobody reads.
pub fn summary(scene: &Scene, out: &mut impl Write) -> io::Result<()> {
    let counts = &scene.counts;
    let [none, once, exactly] = counts.cloud;
    let (here, all) = (counts.here, none + once + exactly);
    writeln!(
        out,
        "Messages here: {here}. In the cloud: {all}, of which {none} at QoS 0, {once} at QoS 1, {exactly} at QoS 2."
    )?;
    if counts.outages > 0 {
        let times = if counts.outages == 1 { "once".to_owned() } else { format!("{} times", counts.outages) };
        let order = match counts.skipped {
            0 => "in order".to_owned(),
            skipped => format!("{skipped} of them overtaken or lost"),
        };
        write!(out, "The cloud was away {times}. Waited and arrived, {order}: {}.", counts.waited)?;
        match scene.uplink {
            Uplink::Up => writeln!(out)?,
            _ => writeln!(out, " Still waiting at the end: {}.", scene.waiting())?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::scene::tests::{scene, seen};
    use super::*;
    use crate::mqtt::QoS;

    #[test]
    fn an_event_is_a_line_and_its_news_another() {
        let mut lines = Lines::new(Vec::new());
        let event = seen(Where::Cloud, "berlin/door/open", "true", QoS::ExactlyOnce);
        lines.event(&event, Some("all have arrived"), Duration::from_millis(1230)).unwrap();
        let event = seen(Where::Here, "demo/door/open", "a\nb", QoS::ExactlyOnce);
        lines.event(&event, None, Duration::from_secs(100)).unwrap();
        assert_eq!(
            String::from_utf8(lines.out).unwrap(),
            "   1.23 s  cloud, QoS 2    berlin/door/open = true\n   1.23 s  --              all have arrived\n 100.00 s  here            demo/door/open = a b\n"
        );
    }

    #[test]
    fn the_summary_counts() {
        let mut scene = scene();
        scene.handle(&seen(Where::Here, "demo/gps", "1", QoS::AtMostOnce), Duration::ZERO);
        scene.handle(&seen(Where::Cloud, "fleet/demo", "1", QoS::AtMostOnce), Duration::ZERO);
        let mut out = Vec::new();
        summary(&scene, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "Messages here: 1. In the cloud: 1, of which 1 at QoS 0, 0 at QoS 1, 0 at QoS 2.\n"
        );
    }
}
