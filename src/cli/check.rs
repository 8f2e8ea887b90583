//! `edgeway check`: reads a configuration, says every mistake, or what would run.

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::outlook::Outlook;
use crate::bridge::plan::{PlannedRoute, RouteQos};
use crate::bridge::settings::Retain;
use crate::broker::access::{Anonymous, Rules};
use crate::config::{self, Configuration, Environment};
use crate::mapping::hop_payload::HopPayload;
use crate::store::settings::Plan as StoragePlan;

/// Users that are named.
const MAX_USERS: usize = 10;

/// Check a configuration.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The configuration: a file, or a folder of *.yaml files [default: /etc/edgeway/edgeway.yaml, then
    /// config/edgeway.yaml]
    #[arg(short, long, value_name = "PATH")]
    config: Option<PathBuf>,
}

impl Check {
    /// Prints what was found; 2 where there are mistakes.
    pub fn run(self) -> ExitCode {
        let colour = std::io::stderr().is_terminal();
        let outcome = check(self.config.as_deref(), &Environment::process(), colour);
        print!("{}", outcome.stdout);
        eprint!("{}", outcome.stderr);
        ExitCode::from(outcome.status)
    }
}

/// What a command prints, and the status it ends with.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// 0, or 2 where the configuration has mistakes.
    pub status: u8,
    /// For standard output.
    pub stdout: String,
    /// For standard error.
    pub stderr: String,
}

/// Checks the configuration at `path`, or at the usual places; `colour` is for the mistakes.
pub fn check(path: Option<&Path>, environment: &Environment<'_>, colour: bool) -> Outcome {
    let read = config::find(path).map_err(config::Refused::from).and_then(|path| config::read(&path, environment));
    match read {
        Ok(configuration) => Outcome { status: 0, stdout: summary(&configuration), stderr: String::new() },
        Err(refused) => Outcome { status: 2, stdout: String::new(), stderr: refused.render(colour) },
    }
}

/// What a configuration does, in a few lines.
pub fn summary(configuration: &Configuration) -> String {
    let Configuration { path, settings, resolved, .. } = configuration;
    let mut lines = Lines(String::new());
    lines.add(format_args!("{}: no mistakes", path.display()));
    lines.add(format_args!("gateway   {}", resolved.gateway));
    for listener in &resolved.listeners {
        lines.add(format_args!("listens   {listener}"));
    }
    if let Some(users) = users_line(&resolved.rules) {
        lines.add(format_args!("users     {users}"));
    }
    if let Some(anonymous) = anonymous_line(&resolved.rules) {
        lines.add(format_args!("anonymous {anonymous}"));
    }
    lines.add(format_args!("storage   {}", storage_line(&resolved.storage)));
    if let Some(admin) = &resolved.admin {
        lines.add(format_args!("admin     http://{}:{}/healthz and /metrics", admin.host, admin.port));
    }
    if let Some((host, port)) = &resolved.webhooks {
        lines.add(format_args!("webhooks  {host}:{port}"));
    }
    let devices: Vec<&str> = settings.adapters().devices().into_iter().map(|name| name.value.as_str()).collect();
    if devices.is_empty() {
        lines.add(format_args!("devices   none"));
    } else {
        lines.add(format_args!("devices   {}", devices.join(", ")));
    }
    let published = resolved.adapters.published();
    let outlook = Outlook::new(&published, &resolved.storage, &resolved.bridges);
    for bridge in &resolved.bridges {
        let servers: Vec<String> = bridge.servers.iter().map(ToString::to_string).collect();
        let proxy = bridge.proxy.as_ref().map(|proxy| format!(" through {proxy}")).unwrap_or_default();
        let servers = servers.join(", ");
        lines.add(format_args!("bridge    {} to {servers}{proxy} as {}", bridge.name, bridge.client_id));
        for route in &bridge.send {
            lines.add(format_args!("  send    {}", route_line(route)));
            if let Some(hint) = outlook.hint(bridge, route) {
                lines.add(format_args!("          {hint}"));
            }
        }
        for route in &bridge.receive {
            lines.add(format_args!("  receive {}", route_line(route)));
        }
        if let Some(lasts) = outlook.lasts(bridge) {
            lines.add(format_args!("  lasts   {lasts}"));
        }
        match &bridge.will {
            Some(will) => lines.add(format_args!("  will    {} says {}", will.topic, will.payload)),
            None => lines.add(format_args!("  will    none: no route sends {}/status", resolved.gateway)),
        }
    }
    lines.0
}

/// Where messages are kept, how much of them, and what happens then.
fn storage_line(storage: &StoragePlan) -> String {
    let StoragePlan { disk, limit, when_full } = storage;
    let limit = limit / 1024 / 1024;
    match disk {
        Some(disk) => format!("{}; {limit}MB for all queues, then {when_full}", disk.path.display()),
        None => format!("in memory: what waits is gone after a restart; {limit}MB for each bridge, then {when_full}"),
    }
}

struct Lines(String);

impl Lines {
    fn add(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing into a string does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

fn users_line(rules: &Rules) -> Option<String> {
    let mut names: Vec<&str> = rules.users.keys().map(|name| &**name).collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(MAX_USERS);
    names.truncate(MAX_USERS);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!names.is_empty()).then(|| format!("{}{more}", names.join(", ")))
}

/// Who may connect without a user name, where that is not what everybody expects.
fn anonymous_line(rules: &Rules) -> Option<String> {
    match &rules.anonymous {
        Anonymous::Loopback if rules.users.is_empty() => None,
        Anonymous::Loopback => Some("on this machine".into()),
        Anonymous::Everybody => Some("everybody".into()),
        Anonymous::Nobody => Some("nobody".into()),
        Anonymous::From(ranges, _) => {
            Some(format!("from {}", ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")))
        }
    }
}

fn route_line(route: &PlannedRoute) -> String {
    let mut line = route.remap.from().to_string();
    if let Some(to) = route.remap.to() {
        line.push_str(&format!(" -> {to}"));
    }
    match route.qos {
        RouteQos::Exactly(qos) => line.push_str(&format!(", qos {qos}")),
        RouteQos::AtMost(crate::mqtt::QoS::ExactlyOnce) => line.push_str(", the message's own qos"),
        RouteQos::AtMost(qos) => line.push_str(&format!(", qos up to {qos}")),
    }
    match route.retain {
        Retain::Keep => {}
        Retain::Always => line.push_str(", retained"),
        Retain::Never => line.push_str(", not retained"),
    }
    if route.payload != HopPayload::AsPublished {
        line.push_str(&format!(", {}", route.payload));
    }
    for except in &route.except {
        line.push_str(&format!(", except {except}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment<'static> {
        Environment { variable: &|_| None, host_name: "edge-01".into() }
    }

    #[test]
    fn a_configuration_without_mistakes_says_what_it_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edgeway.yaml");
        std::fs::write(
            &path,
            "\
bridges:
  cloud:
    url: mqtt://cloud.example.com
    send:
      - { from: \"{gateway}/meter/#\", to: \"plants/meter/#\", qos: 2, retain: true }
      - { from: \"{gateway}/#\", except: [\"{gateway}/gps\"], max_qos: 1 }
    receive: [ { from: \"cmd/{gateway}/+\", to: \"{gateway}/+/set\", retain: false } ]
",
        )
        .unwrap();
        let outcome = check(Some(&path), &environment(), false);
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
        let shown = outcome.stdout.replace(&folder.path().display().to_string(), "");
        insta::assert_snapshot!(shown, @r"
        /edgeway.yaml: no mistakes
        gateway   edge-01
        listens   mqtt://127.0.0.1:1883
        storage   /var/lib/edgeway; 512MB for all queues, then drop_oldest
        devices   none
        bridge    cloud to mqtt://cloud.example.com:1883 as edge-01-cloud
          send    edge-01/meter/# -> plants/meter/#, qos 2, retained
          send    edge-01/#, qos up to 1, except edge-01/gps
          receive cmd/edge-01/+ -> edge-01/+/set, the message's own qos, not retained
          will    edge-01/status says offline
        ");
    }

    #[test]
    fn how_long_each_bridge_lasts_is_said_and_what_is_lost_on_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edgeway.yaml");
        let points: String =
            (0..60).map(|point| format!("          p{point}: {{ holding: {point}, deadband: 1 }}\n")).collect();
        std::fs::write(
            &path,
            format!(
                "\
modbus:
  hall:
    host: h
    devices:
      plc:
        id: 1
        every: 5s
        points:
{points}
webhooks: {{ listen: \"127.0.0.1:8081\" }}
http:
  plug: {{ get: \"http://x/\", every: 250ms, payload: json, points: {{ power: {{ unit: W }}, energy: {{}} }} }}
  bell: {{ webhook: /bell }}
bridges:
  all: {{ url: \"mqtt://a\", send: [ {{ from: \"#\", qos: 1, payload: '{{\"v\": {{value}}}}' }} ] }}
  plug: {{ url: \"mqtt://b\", mqtt: 3.1.1, send: [ {{ from: \"+/plug/+\" }}, {{ from: \"+/plc/#\", payload: plain }} ], queue: {{ limit: 1MB, when_full: refuse }} }}
  newest: {{ url: \"mqtt://c\", send: [ {{ from: \"+/plug/#\", every: 1m }} ] }}
  brief: {{ url: \"mqtt://d\", send: [ {{ from: \"+/plug/power\", to: p }} ], queue: {{ expire: 1h }} }}
  live: {{ url: \"mqtt://e\", send: [ {{ from: \"#\", qos: 0 }} ] }}
"
            ),
        )
        .unwrap();
        let outcome = check(Some(&path), &environment(), false);
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
        let told = |line: &&str| ["bridge ", "  lasts", "          the"].iter().any(|begin| line.starts_with(begin));
        let shown = outcome.stdout.lines().filter(told).collect::<Vec<_>>().join("\n");
        insta::assert_snapshot!(shown, @r##"
        bridge    all to mqtt://a:1883 as edge-01-all
          lasts   at most 20 msg/s, 63 h or more in 512MB (48 h while all 3 bridges that share it wait), then drop_oldest; without bell, whose pace is not known
        bridge    plug to mqtt://b:1883 as edge-01-plug
                  the time of readings is lost: MQTT 3.1.1 has no place for it; `payload: json` keeps it
          lasts   at most 20 msg/s, 7 min or more in 1MB, then refuse
        bridge    newest to mqtt://c:1883 as edge-01-newest
          lasts   2 msg/min, for ever in 512MB: of each topic only the newest waits
        bridge    brief to mqtt://d:1883 as edge-01-brief
          lasts   4 msg/s, 60 min in 2MB of 512MB, then they expire
        bridge    live to mqtt://e:1883 as edge-01-live
        "##);
    }

    #[test]
    fn who_may_connect_is_said_where_it_is_not_this_machine_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edgeway.yaml");
        let said = |broker: &str| {
            std::fs::write(&path, format!("broker: {{ {broker} }}\n")).unwrap();
            let outcome = check(Some(&path), &environment(), false);
            assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
            let line = |line: &&str| line.starts_with("users") || line.starts_with("anonymous");
            outcome.stdout.lines().filter(line).collect::<Vec<_>>().join("; ")
        };
        let users = "users: { bob: { password: x, read: a }, ann: { password: y, write: a } }";
        assert_eq!(said(""), "");
        assert_eq!(said(users), "users     ann, bob; anonymous on this machine");
        assert_eq!(said(&format!("{users}, anonymous: false")), "users     ann, bob; anonymous nobody");
        assert_eq!(said("anonymous: true"), "anonymous everybody");
        assert_eq!(
            said("anonymous: { from: [loopback, 10.0.0.0/8], read: \"#\" }"),
            "anonymous from loopback, 10.0.0.0/8"
        );
    }

    #[test]
    fn a_configuration_with_mistakes_ends_with_status_2() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edgeway.yaml");
        std::fs::write(&path, "brokr: {}\n").unwrap();
        let outcome = check(Some(&path), &environment(), false);
        assert_eq!((outcome.status, outcome.stdout.as_str()), (2, ""));
        assert!(outcome.stderr.contains("did you mean `broker`?"), "{}", outcome.stderr);
        let nothing = check(Some(&folder.path().join("none.yaml")), &environment(), false);
        assert_eq!(nothing.status, 2);
        assert!(nothing.stderr.starts_with("error: cannot read "), "{}", nothing.stderr);
    }

    #[test]
    fn the_default_configuration_has_no_mistakes() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/edgeway.yaml");
        let outcome = check(Some(&path), &environment(), false);
        assert_eq!(outcome.stderr, "");
    }
}
