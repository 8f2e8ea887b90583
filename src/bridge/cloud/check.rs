//! What a cloud would refuse, said before anything is sent to it.

use super::azure::is_device_id;
use super::sas::Key;
use super::{Preset, Rules, TakesRetain};
use crate::bridge::plan::{PlannedRoute, Server, Will};
use crate::bridge::settings::{Retain, Route, Settings, WillSettings};
use crate::mapping::hop_payload::HopPayload;
use crate::settings::{Located, Mistake, Place};

/// A bridge's settings, and what they mean so far.
pub struct Checked<'a> {
    /// As they were written.
    pub settings: &'a Settings,
    /// The cloud.
    pub preset: Preset,
    /// The bridge's name.
    pub bridge: &'a str,
    /// Whether all values could be read. If not, what is missing may have been there.
    pub is_complete: bool,
    /// The servers, without those that are none.
    pub servers: &'a [Server],
    /// What goes there, `None` for routes with mistakes.
    pub send: &'a [Option<PlannedRoute>],
    /// What comes from there.
    pub receive: &'a [Option<PlannedRoute>],
    /// The client id.
    pub client_id: &'a str,
    /// The name of the device.
    pub device: &'a str,
    /// The will.
    pub will: Option<&'a Will>,
}

/// What stands with a cloud only, where there is none.
pub fn without_cloud(settings: &Settings, is_complete: bool) -> Vec<Mistake> {
    if !is_complete {
        return Vec::new();
    }
    of_azure_alone(settings)
}

/// All that the cloud would refuse.
pub fn check(checked: &Checked<'_>) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    connection(checked, &mut mistakes);
    limits(checked, &mut mistakes);
    will(checked, &mut mistakes);
    for (index, (written, planned)) in checked.settings.send.iter().zip(checked.send).enumerate() {
        let at = format!("route {} of bridge {}", index + 1, checked.bridge);
        qos(checked, &at, written, &mut mistakes);
        sent(checked, &at, written, planned.as_ref(), &mut mistakes);
    }
    for (index, (written, planned)) in checked.settings.receive.iter().zip(checked.receive).enumerate() {
        let at = format!("receive route {} of bridge {}", index + 1, checked.bridge);
        qos(checked, &at, written, &mut mistakes);
        received(checked, &at, written, planned.as_ref(), &mut mistakes);
    }
    mistakes
}

/// How the cloud is entered.
fn connection(checked: &Checked<'_>, mistakes: &mut Vec<Mistake>) {
    let Checked { settings, preset, is_complete, client_id, .. } = *checked;
    let rules = preset.rules();
    let name = rules.name;
    if rules.wants_tls && is_complete {
        let plain = settings.url.iter().filter(|url| {
            let url = url.to_lowercase();
            url.starts_with("mqtt://") || url.starts_with("ws://")
        });
        mistakes.extend(plain.map(|url| url.mistake(format!("{name} wants TLS")).help("mqtts://HOST")));
    }
    if let (Some(only), Some(written)) = (rules.version, settings.mqtt)
        && written.value != only
    {
        mistakes.push(written.mistake(format!("{name} speaks MQTT 3.1.1")).help("leave `mqtt` out"));
    }
    if let Some(most) = rules.client_id_bytes.filter(|&most| client_id.len() > most)
        && preset != Preset::AzureIotHub
    {
        let place = settings.client_id.as_ref().map_or(cloud_place(settings), |client_id| client_id.place);
        let length = client_id.len();
        mistakes.push(Mistake::new(place, format!("a client id of {length} bytes, {name} takes {most}")));
    }
    let has_certificate = settings.tls.as_ref().is_some_and(|tls| tls.cert.is_some());
    let has_user = settings.username.is_some();
    let wanted = match preset {
        Preset::Aws if !has_certificate && !has_user => {
            Some(("a client certificate", "tls: { cert: FILE, key: FILE }; or a `username` for a custom authorizer"))
        }
        Preset::Hivemq | Preset::Emqx if !has_user || settings.password.is_none() => {
            Some(("`username` and `password`", "those of the cluster's access management"))
        }
        Preset::Thingsboard if !has_certificate && !has_user => {
            Some(("the access token of the gateway's device", "username: \"${TOKEN}\""))
        }
        _ => None,
    };
    if let Some((what, help)) = wanted.filter(|_| is_complete) {
        mistakes.push(Mistake::new(cloud_place(settings), format!("{name} wants {what}")).help(help));
    }
    if preset == Preset::AzureIotHub {
        azure(checked, has_certificate, mistakes);
    } else if is_complete {
        mistakes.extend(of_azure_alone(settings));
    }
}

fn of_azure_alone(settings: &Settings) -> Vec<Mistake> {
    let keys = [
        ("device", settings.device.as_ref().map(|device| device.place)),
        ("key", settings.key.as_ref().map(|key| key.place)),
        ("token_lifetime", settings.token_lifetime.as_ref().map(|lifetime| lifetime.place)),
    ];
    let written = keys.into_iter().filter_map(|(key, place)| Some((key, place?)));
    written
        .map(|(key, place)| Mistake::new(place, format!("`{key}` stands with `cloud: azure-iot-hub` only")))
        .collect()
}

fn azure(checked: &Checked<'_>, has_certificate: bool, mistakes: &mut Vec<Mistake>) {
    let Checked { settings, is_complete, device, .. } = *checked;
    let made = [
        ("username", settings.username.as_ref().map(|username| username.place)),
        ("password", settings.password.as_ref().map(|password| password.place)),
        ("client_id", settings.client_id.as_ref().map(|client_id| client_id.place)),
    ];
    for (key, place) in made {
        let help = "write `device` and `key`";
        mistakes.extend(
            place.map(|place| Mistake::new(place, format!("`{key}` is made by `cloud: azure-iot-hub`")).help(help)),
        );
    }
    if !is_device_id(device) && !device.is_empty() {
        let place = settings.device.as_ref().map_or(cloud_place(settings), |device| device.place);
        let help = "1 to 128 of a-z A-Z 0-9 - : . _ % * ? ! ( ) , = @ $ '";
        mistakes.push(Mistake::new(place, format!("`{device}` is no device of Azure IoT Hub")).help(help));
    }
    match &settings.key {
        Some(key) if has_certificate => {
            let mistake = key.mistake("a device has a `key` or a certificate, not both");
            mistakes.push(mistake.help("leave out `key`, or `tls.cert` and `tls.key`"));
        }
        Some(key) if Key::parse(key.reveal()).is_none() => {
            let help = "copy the primary key of the device as the portal shows it";
            mistakes.push(key.mistake("a `key` is base64").help(help));
        }
        None if !has_certificate && is_complete => {
            let mistake = Mistake::new(cloud_place(settings), "Azure IoT Hub wants the device's `key`");
            mistakes
                .push(mistake.help("key: \"${AZURE_DEVICE_KEY}\"; or a certificate: tls: { cert: FILE, key: FILE }"));
        }
        _ => {}
    }
    if let Some(lifetime) = settings.token_lifetime {
        let range = std::time::Duration::from_secs(10)..=std::time::Duration::from_secs(365 * 86_400);
        if !range.contains(&lifetime.value.0) {
            mistakes.push(lifetime.mistake("`token_lifetime` is 10s to 365d"));
        }
    }
}

/// Numbers that the cloud bounds.
fn limits(checked: &Checked<'_>, mistakes: &mut Vec<Mistake>) {
    let settings = checked.settings;
    let rules = checked.preset.rules();
    let Rules { name, keep_alive, .. } = rules;
    if let Some(written) = settings.keep_alive {
        let seconds = written.value.0.as_secs();
        if !(u64::from(*keep_alive.start())..=u64::from(*keep_alive.end())).contains(&seconds) {
            let range = format!("{}s to {}s", keep_alive.start(), keep_alive.end());
            mistakes.push(written.mistake(format!("`keep_alive` is {range} with {name}")));
        }
    }
    if let (Some(written), Some(most)) = (settings.session, rules.session)
        && written.value.0 > most
    {
        let days = most.as_secs() / 86_400;
        mistakes.push(written.mistake(format!("{name} keeps a session for {days}d at most")));
    }
    if let (Some(written), Some(most)) = (settings.limit.rate, rules.rate)
        && written.value.0 > most
    {
        mistakes.push(written.mistake(format!("{name} takes {most} messages a second")));
    }
    if let (Some(written), Some(most)) = (settings.limit.bandwidth, rules.bandwidth)
        && written.value.0 > most
    {
        mistakes.push(written.mistake(format!("{name} takes {}KB a second", most / 1024.0)));
    }
    let routes = settings.receive.len();
    if let Some(most) = rules.subscriptions.filter(|&most| routes > most) {
        let place = settings.receive[most].place;
        mistakes.push(Mistake::new(place, format!("{routes} receive routes, {name} takes {most} subscriptions")));
    }
}

fn will(checked: &Checked<'_>, mistakes: &mut Vec<Mistake>) {
    let (WillSettings::Message(written), Some(will)) = (&checked.settings.will, checked.will) else {
        return;
    };
    let rules = checked.preset.rules();
    let at = format!("the will of bridge {}", checked.bridge);
    let name = rules.name;
    if checked.preset == Preset::Thingsboard {
        mistakes.push(written.topic.mistake(format!("{at}: {name} publishes none")));
        return;
    }
    if will.qos > rules.max_qos {
        mistakes.push(written.topic.mistake(format!("{at}: qos {}, {name} takes {}", will.qos, qos_range(rules))));
    }
    if will.retain && rules.retain == TakesRetain::No {
        mistakes.push(written.topic.mistake(format!("{at}: {name} retains nothing")).help("retain: false"));
    }
    if checked.preset != Preset::AzureIotHub
        && let Some(problem) = rules.refuses(will.topic.as_str())
    {
        mistakes.push(written.topic.mistake(format!("{at}: {problem}")));
    }
}

fn qos(checked: &Checked<'_>, at: &str, written: &Located<Route>, mistakes: &mut Vec<Mistake>) {
    let rules = checked.preset.rules();
    let name = rules.name;
    for (key, qos) in [("qos", written.qos), ("max_qos", written.max_qos)] {
        if let Some(qos) = qos.filter(|qos| qos.value.0 > rules.max_qos) {
            mistakes.push(qos.mistake(format!("{at}: {key} {}, {name} takes {}", qos.value.0, qos_range(rules))));
        }
    }
}

fn sent(
    checked: &Checked<'_>,
    at: &str,
    written: &Located<Route>,
    planned: Option<&PlannedRoute>,
    mistakes: &mut Vec<Mistake>,
) {
    let rules = checked.preset.rules();
    let name = rules.name;
    if let Some(retain) = written.retain.filter(|retain| retain.value != Retain::Never)
        && rules.retain == TakesRetain::No
    {
        mistakes.push(retain.mistake(format!("{at}: {name} retains nothing")).help("leave `retain` out"));
    }
    if checked.preset == Preset::Thingsboard {
        if let Some(payload) = written.payload.as_ref().filter(|payload| payload.value != HopPayload::AsPublished) {
            let mistake = payload.mistake(format!("{at}: `payload` is made for {name}"));
            mistakes.push(mistake.help("leave it out: each value goes as {device: [{ts, values}]}"));
        }
        if let Some(batch) = &written.batch {
            mistakes.push(batch.mistake(format!("{at}: {name} takes no `batch`")));
        }
    }
    // The topics of the others stand in properties and payloads.
    if let Some(planned) = planned.filter(|_| checked.preset.has_topics()) {
        let to = planned.remap.to().unwrap_or(planned.remap.from());
        if let Some(problem) = rules.refuses_all_of(to.as_str()) {
            let place = written.to.as_ref().map_or(written.from.place, |to| to.place);
            mistakes.push(Mistake::new(place, format!("{at}: {problem}")));
        }
    }
}

fn received(
    checked: &Checked<'_>,
    at: &str,
    written: &Located<Route>,
    planned: Option<&PlannedRoute>,
    mistakes: &mut Vec<Mistake>,
) {
    let rules = checked.preset.rules();
    let name = rules.name;
    let comes = match checked.preset {
        Preset::AzureIotHub => "cloud-to-device messages and direct methods come as commands without a route",
        Preset::Thingsboard => "RPC requests come as commands without a route",
        Preset::Aws | Preset::Hivemq | Preset::Emqx => {
            if let Some(problem) = planned.and_then(|planned| rules.refuses(planned.remap.from().as_str())) {
                mistakes.push(written.from.mistake(format!("{at}: {problem}")));
            }
            return;
        }
    };
    mistakes.push(written.from.mistake(format!("{at}: {name} has no topics to subscribe to")).help(comes));
}

/// `0 and 1` or `0`.
fn qos_range(rules: &Rules) -> String {
    let all: Vec<String> = (0..=rules.max_qos as u8).map(|qos| qos.to_string()).collect();
    match &all[..] {
        [most @ .., last] if !most.is_empty() => format!("{} and {last}", most.join(", ")),
        all => all.concat(),
    }
}

fn cloud_place(settings: &Settings) -> Place {
    settings.cloud.as_ref().map(|cloud| cloud.place).unwrap_or_default()
}
