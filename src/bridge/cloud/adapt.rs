//! Makes a plan one for its cloud: names, routes that the cloud wants, and envelopes on those of the user.

use std::sync::Arc;
use std::time::Duration;

use super::azure::{self, Methods};
use super::requests::Requests;
use super::sas::Key;
use super::{Cloud, Preset, thingsboard};
use crate::bridge::plan::{Plan, PlannedRoute, RouteQos};
use crate::bridge::settings::{Retain, Settings};
use crate::broker::envelope::SharedEnvelope;
use crate::broker::lanes;
use crate::mapping::hop_payload::HopPayload;
use crate::mqtt::{QoS, Remap, TopicFilter, TopicName};
use crate::settings::Place;

/// How long a token is good for where nothing is said.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// Makes `plan`, which has no mistakes, one for the cloud `preset`.
pub fn adapt(plan: &mut Plan, preset: Preset, settings: &Settings, gateway: &str, device: &str) {
    let mut cloud = Cloud { preset, rules: preset.rules(), device: None };
    match preset {
        // Plain brokers but for their limits.
        Preset::Aws | Preset::Hivemq | Preset::Emqx => {}
        Preset::AzureIotHub => {
            cloud.device = Some(azure::Device {
                id: device.into(),
                key: settings.key.as_ref().and_then(|key| Key::parse(key.reveal())),
                token_lifetime: settings.token_lifetime.map_or(TOKEN_LIFETIME, |lifetime| lifetime.value.0),
            });
            plan.client_id = device.into();
            let [json, plain] = [true, false].map(|is_json| azure::Telemetry::new(device, is_json));
            if let Some(will) = &mut plan.will
                && let telemetry = if will.payload.starts_with('{') { &json } else { &plain }
                && let Ok(topic) = TopicName::new(&telemetry.address(will.topic.as_str(), None))
            {
                will.topic = topic;
            }
            let (json, plain) = (SharedEnvelope::new(json), SharedEnvelope::new(plain));
            for route in &mut plan.send {
                let is_json = route.payload == HopPayload::Json;
                route.envelope = Some(if is_json { &json } else { &plain }.clone());
            }
            let methods = Arc::new(Methods::default());
            let commands = SharedEnvelope::new(azure::Commands::new(gateway, device, Arc::clone(&methods)));
            let filters = azure::filters(device);
            plan.receive.extend(filters.iter().filter_map(|filter| command_route(filter, &commands)));
            plan.send.insert(0, answer_route(gateway, SharedEnvelope::new(azure::Answers(methods))));
        }
        Preset::Thingsboard => {
            // It publishes nothing for those who are gone: it notes by itself when a gateway comes and goes.
            plan.will = None;
            let envelope = SharedEnvelope::new(thingsboard::Telemetry::new(gateway));
            for route in &mut plan.send {
                route.envelope = Some(envelope.clone());
            }
            let requests = Arc::new(Requests::default());
            let commands = SharedEnvelope::new(thingsboard::Commands::new(gateway, Arc::clone(&requests)));
            plan.receive.extend(thingsboard::FILTERS.iter().filter_map(|filter| command_route(filter, &commands)));
            plan.send.insert(0, answer_route(gateway, SharedEnvelope::new(thingsboard::Answers(requests))));
        }
    }
    plan.cloud = Some(cloud);
}

/// A route by which the cloud's commands come.
fn command_route(filter: &str, envelope: &SharedEnvelope) -> Option<PlannedRoute> {
    Some(PlannedRoute {
        qos: RouteQos::AtMost(QoS::AtLeastOnce),
        ..route(Remap::new(TopicFilter::new(filter).ok()?, None).ok()?, envelope.clone())
    })
}

/// The route by which the results of the cloud's commands go: before all others, and to nobody who has gone meanwhile.
fn answer_route(gateway: &str, envelope: SharedEnvelope) -> PlannedRoute {
    let everything = TopicFilter::new(&format!("{gateway}/#")).and_then(|filter| Ok((filter, None)));
    let remap = everything.ok().and_then(|(from, to)| Remap::new(from, to).ok());
    PlannedRoute { lane: lanes::HIGH, ..route(remap.expect("a gateway's name is one level of a topic"), envelope) }
}

fn route(remap: Remap, envelope: SharedEnvelope) -> PlannedRoute {
    PlannedRoute {
        remap,
        qos: RouteQos::Exactly(QoS::AtMostOnce),
        retain: Retain::Never,
        except: Vec::new(),
        max_age: None,
        payload: HopPayload::AsPublished,
        lane: lanes::NORMAL,
        envelope: Some(envelope),
        place: Place::default(),
    }
}
