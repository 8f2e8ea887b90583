//! The rules between values: what no single value can know about itself.

use std::collections::HashMap;
use std::path::Path;

use super::schema::Settings;
use crate::adapters::point::Publishing;
use crate::adapters::registry::Planned;
use crate::admin;
use crate::bridge::{Plan, loops};
use crate::broker::access::Rules;
use crate::broker::settings::Listener;
use crate::mapping::PayloadFormat;
use crate::mqtt::TopicName;
use crate::settings::names::{check_bridge_name, check_device_names, level_problem};
use crate::settings::{Located, Mistake, Place, split_host};
use crate::store::settings::Plan as StoragePlan;

/// What the rules made of the settings.
#[derive(Debug, Default)]
pub struct Resolved {
    /// The gateway's name.
    pub gateway: String,
    /// The sockets of the broker.
    pub listeners: Vec<Listener>,
    /// Who may connect to the broker, and do what.
    pub rules: Rules,
    /// What is kept on disk.
    pub storage: StoragePlan,
    /// The listener of `/healthz` and `/metrics`.
    pub admin: Option<admin::Plan>,
    /// The address of the webhooks, host and port.
    pub webhooks: Option<(String, u16)>,
    /// The bridges.
    pub bridges: Vec<Plan>,
    /// The adapters, ready to run.
    pub adapters: Planned,
}

/// Checks every rule; `folder` is that of the configuration.
///
/// Where `mistakes` has something already, values are missing that may have been there: what depends on them is not
/// checked.
pub fn resolve(settings: &Settings, host_name: &str, folder: &Path, mistakes: &mut Vec<Mistake>) -> Resolved {
    let known = mistakes.clone();
    let is_clean = |place: Place| !known.iter().any(|mistake| place.contains(mistake.place));
    let mut resolved = Resolved { gateway: gateway_name(settings, host_name, mistakes), ..Resolved::default() };
    let mistaken = topic_template(settings, &resolved.gateway);
    let is_topic = mistaken.is_none();
    mistakes.extend(mistaken);
    match settings.broker.resolve(&resolved.gateway, folder) {
        _ if !is_clean(settings.broker.place) => {
            mistakes.extend(settings.broker.mistakes_of_the_rest(&resolved.gateway, folder));
        }
        Ok(broker) => (resolved.listeners, resolved.rules) = (broker.listeners, broker.rules),
        Err(more) => mistakes.extend(more),
    }
    match settings.storage.resolve(folder) {
        _ if !is_clean(settings.storage.place) => {}
        Ok(storage) => resolved.storage = storage,
        Err(more) => mistakes.extend(more),
    }
    if let Some(admin) = settings.admin.as_ref().filter(|admin| is_clean(admin.place)) {
        match admin.resolve() {
            Ok(admin) => resolved.admin = Some(admin),
            Err(more) => mistakes.extend(more),
        }
    }
    if let Some(listen) = &settings.webhooks.listen {
        match webhooks(listen) {
            Ok((host, port)) if resolved.admin.as_ref().is_some_and(|admin| admin.is_at(&host, port)) => {
                mistakes.push(listen.mistake("`admin` listens there").help("another port"));
            }
            Ok(address) => resolved.webhooks = Some(address),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    for (name, bridge) in &settings.bridges {
        mistakes.extend(check_bridge_name(name));
        match bridge.resolve(&resolved.gateway, name, folder) {
            _ if !is_clean(bridge.place) => {
                mistakes.extend(bridge.mistakes_of_the_rest(&resolved.gateway, name, folder));
            }
            Ok(plan) => resolved.bridges.push(plan),
            Err(more) => mistakes.extend(more),
        }
    }
    client_ids(settings, &resolved.bridges, mistakes);
    mistakes.extend(loops(&resolved.bridges));
    mistakes.extend(check_device_names(settings.adapters().devices()));
    let gateway = &settings.gateway;
    let defaults = Publishing {
        // A template that is wrong here would be wrong again for each point.
        topic: is_topic.then(|| gateway.topic.clone()),
        qos: Some(gateway.qos),
        retain: Some(gateway.retain),
        payload: Some(gateway.payload.clone()),
    };
    resolved.adapters = settings.adapters().plan(&resolved.gateway, &defaults, is_clean);
    mistakes.append(&mut resolved.adapters.mistakes);
    if !resolved.adapters.hooks.is_empty()
        && settings.webhooks.listen.is_none()
        && let Some((name, _)) = settings.http.iter().find(|(_, device)| device.webhook.is_some())
    {
        let mistake = name.mistake("a webhook wants a listener");
        mistakes.push(mistake.help("for example webhooks: { listen: \"127.0.0.1:8081\" }"));
    }
    resolved
}

fn gateway_name(settings: &Settings, host_name: &str, mistakes: &mut Vec<Mistake>) -> String {
    let Some(name) = &settings.gateway.name else {
        return host_name.into();
    };
    if let Some(problem) = level_problem(name) {
        mistakes.push(name.mistake(format!("`{}` is no name of a gateway", name.value)).help(problem));
        return host_name.into();
    }
    name.value.clone()
}

/// What is wrong in the topic of all points: every point needs one of its own.
fn topic_template(settings: &Settings, gateway: &str) -> Option<Mistake> {
    let topic = &settings.gateway.topic;
    // `{bus}` means something to devices that have one: those without say so themselves.
    let sample = topic.expand(|name| match name {
        "gateway" => Some(gateway),
        "device" | "point" | "bus" => Some("x"),
        _ => None,
    });
    let sample = match sample {
        Err(error) => {
            let help = "in a topic there are {gateway}, {device}, {point} and {bus}";
            return Some(topic.mistake(error.to_string()).help(help));
        }
        Ok(sample) => sample,
    };
    if let Err(error) = TopicName::new(&sample) {
        return Some(topic.mistake(format!("`{}` is no topic", topic.as_str())).help(error.to_string()));
    }
    let shares_a_message = settings.gateway.payload == PayloadFormat::Object;
    let wanted: &[&str] = if shares_a_message { &["device"] } else { &["device", "point"] };
    let missing = wanted.iter().find(|name| !topic.mentions(name))?;
    let mistake = topic.mistake(format!("without `{{{missing}}}` several points share one topic"));
    Some(mistake.help("for example \"{gateway}/{device}/{point}\""))
}

/// Two connections with one client id to one broker throw each other out for ever.
fn client_ids(settings: &Settings, bridges: &[Plan], mistakes: &mut Vec<Mistake>) {
    let mut first: HashMap<(&str, u16, &str), &str> = HashMap::new();
    for plan in bridges {
        for server in &plan.servers {
            let other = *first.entry((&server.host, server.port, &plan.client_id)).or_insert(&plan.name);
            let place = |bridge: &str| {
                let (name, settings) = settings.bridges.get_key_value(bridge)?;
                Some(settings.client_id.as_ref().map_or(name.place, |client_id| client_id.place))
            };
            if let (true, Some(here), Some(there)) = (other != plan.name, place(&plan.name), place(other)) {
                let message = format!("`{other}` has the same client id at {}", server.host);
                let mistake = Mistake::new(here, message).related(there, "the same one");
                mistakes.push(mistake.help("a broker keeps one connection for each client id"));
                break;
            }
        }
    }
}

fn webhooks(listen: &Located<String>) -> Result<(String, u16), Mistake> {
    let wrong = || listen.mistake(format!("`{}` is no address to listen on", listen.value));
    if listen.contains("://") {
        return Err(wrong().help("an address has no scheme: 127.0.0.1:8081"));
    }
    match split_host(listen) {
        Ok((host, Some(port))) => Ok((host, port)),
        Ok(_) => Err(wrong().help("host and port: 127.0.0.1:8081")),
        Err(error) => Err(wrong().help(error.to_string())),
    }
}
