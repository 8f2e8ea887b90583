//! The `http:` section of the configuration, and what it plans: sources that are polled, and webhooks.

use std::time::Duration;

use indexmap::IndexMap;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::client::{Auth, Client, Endpoint};
use super::poll::{Poll, PollPlan};
use super::webhook::Hook;
use super::write::{VALUE, Write};
use crate::adapters::Adapter;
use crate::adapters::command::DEFAULT_WRITE_TIMEOUT;
use crate::adapters::point::{DEFAULT_EVERY, Publishing, Reporting, SPANS};
use crate::adapters::source::{PointPlan, Selector, Source};
use crate::adapters::topics::Names;
use crate::mapping::{JsonPath, Limits, PayloadFormat, ValueType};
use crate::settings::{self, Located, Mistake, Named, NotYet, Qos, Secret, Template};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_OFFLINE_AFTER: u32 = 3;

/// One device that is polled over HTTP, or that posts to a webhook.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// URL that is polled.
    pub get: Option<Located<String>>,
    /// Path on which others POST, on the listener of `webhooks`.
    pub webhook: Option<Located<String>>,
    /// How often it is polled, default 10s.
    pub every: Option<Located<settings::Duration>>,
    /// How long an answer may take, default 5s.
    pub timeout: Option<Located<settings::Duration>>,
    /// Failed polls in a row after which the device is offline, default 3.
    pub offline_after: Option<Located<u32>>,
    /// A command that cannot be done in this time fails, default 5s.
    pub write_timeout: Option<Located<settings::Duration>>,
    /// How to log in.
    pub auth: Option<Located<AuthSettings>>,
    /// Headers of every request.
    pub headers: IndexMap<Located<String>, Located<Secret>>,
    /// What a webhook asks of those who POST.
    pub token: Option<Located<Secret>>,
    /// JSONPath of the reading's own time.
    pub time: Option<Located<String>>,
    /// Topic template, default `{gateway}/{device}/{point}`.
    pub topic: Option<Located<Template>>,
    /// QoS, default 1.
    pub qos: Option<Qos>,
    /// Whether the broker keeps the newest value, default true.
    pub retain: Option<bool>,
    /// Shape of the payload, default plain.
    pub payload: Option<PayloadFormat>,
    /// Not available yet.
    pub on_offline: Option<NotYet>,
    /// The values in an answer; without them it goes out as it came.
    pub points: Named<PointSettings>,
}

/// One value in an answer.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PointSettings {
    /// JSONPath of the value; default the field with the point's name.
    pub path: Option<Located<String>>,
    /// What the value is to be; default as it is in the JSON.
    #[serde(rename = "type")]
    pub kind: Option<ValueType>,
    /// Physical unit.
    pub unit: Option<Located<String>>,
    /// Factor, default 1.
    pub scale: Option<Located<f64>>,
    /// Added after scaling, default 0.
    pub offset: Option<Located<f64>>,
    /// Digits behind the decimal point.
    pub round: Option<Located<u8>>,
    /// Publish only what is farther than this from the last value.
    pub deadband: Option<Located<f64>>,
    /// Publish only what differs, default false.
    pub on_change: bool,
    /// With `deadband` and `on_change`: publish at least this often, default 15m.
    pub max_silence: Option<Located<settings::Duration>>,
    /// The request that a command on `<point topic>/set` makes.
    pub write: Option<Located<WriteSettings>>,
    /// Topic template.
    pub topic: Option<Located<Template>>,
    /// QoS.
    pub qos: Option<Qos>,
    /// Whether the broker keeps the newest value.
    pub retain: Option<bool>,
    /// Not available yet.
    pub every: Option<NotYet>,
    /// Not available yet.
    pub payload: Option<NotYet>,
    /// Not available yet.
    pub expr: Option<NotYet>,
}

/// How to log in: one of `basic`, `digest`, `bearer` and `header`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthSettings {
    /// User name, with `password`.
    pub basic: Option<Located<String>>,
    /// User name, with `password`; the password itself is never sent.
    pub digest: Option<Located<String>>,
    /// Password of `basic` and `digest`.
    pub password: Option<Located<Secret>>,
    /// Token.
    pub bearer: Option<Located<Secret>>,
    /// Headers with secrets, such as `X-Key`.
    pub header: IndexMap<Located<String>, Located<Secret>>,
}

/// The request that a command makes: one of `get`, `post` and `put`, with `{value}` in the URL or the body.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WriteSettings {
    /// URL of a GET.
    pub get: Option<Located<String>>,
    /// URL of a POST.
    pub post: Option<Located<String>>,
    /// URL of a PUT.
    pub put: Option<Located<String>>,
    /// Body of a POST or PUT.
    pub body: Option<Located<String>>,
    /// Smallest number that is written.
    pub min: Option<f64>,
    /// Largest number that is written.
    pub max: Option<f64>,
}

/// What settings come to.
pub enum Planned {
    /// A device to poll.
    Poll(Box<dyn Adapter>),
    /// A device that posts.
    Webhook(Hook),
}

/// The paths that two webhooks share, each as a mistake.
pub fn conflicting_hooks(sources: &Named<Settings>) -> Vec<Mistake> {
    let hooks = || sources.iter().filter_map(|(name, source)| Some((name, source.webhook.as_ref()?)));
    hooks()
        .enumerate()
        .filter_map(|(index, (_, path))| {
            let (other, _) = hooks().take(index).find(|(_, earlier)| *earlier == path)?;
            Some(path.mistake(format!("`{}` has the webhook {} already", other.value, path.value)))
        })
        .collect()
}

impl Settings {
    /// The adapter or the webhook of device `name`, where `defaults` is what the gateway says of messages.
    /// `client` is the one that all sources of a gateway share.
    ///
    /// # Errors
    /// Every mistake, each at its place.
    pub fn plan(
        &self,
        name: &Located<String>,
        gateway: &str,
        defaults: &Publishing,
        client: &Client,
    ) -> Result<Planned, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let points = self.points.iter().filter_map(|(name, point)| plan_point(name, point, &mut mistakes)).collect();
        let own =
            Publishing { topic: self.topic.clone(), qos: self.qos, retain: self.retain, payload: self.payload.clone() };
        let publishing = defaults.overridden_by(&own);
        let source = Source::plan(Names { gateway, bus: None, device: name }, &publishing, points);
        let source = source.map_err(|wrong| mistakes.extend(wrong)).ok();
        let time = self.time.as_ref().and_then(|time| json_path(time, &mut mistakes));
        let planned = match (&self.get, &self.webhook) {
            (Some(get), None) => {
                let plan = self.plan_poll(get, source, time, client, &mut mistakes);
                plan.map(|plan| Planned::Poll(Box::new(Poll::new(plan))))
            }
            (None, Some(path)) => {
                let token = self.token.as_ref().map(|token| token.value.clone());
                self.check_hook(path, &mut mistakes);
                source.map(|source| Planned::Webhook(Hook::new(path.value.clone(), token, source, time)))
            }
            (Some(_), Some(path)) => {
                mistakes.push(path.mistake("a source has `get` or `webhook`, not both"));
                None
            }
            (None, None) => {
                let mistake = name.mistake(format!("`{}` has neither `get` nor `webhook`", name.value));
                mistakes.push(mistake.help("`get: http://…` is polled; to `webhook: /hooks/…` others POST"));
                None
            }
        };
        match planned {
            Some(planned) if mistakes.is_empty() => Ok(planned),
            _ => Err(mistakes),
        }
    }

    fn plan_poll(
        &self,
        get: &Located<String>,
        source: Option<Source>,
        time: Option<JsonPath>,
        client: &Client,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<PollPlan> {
        if let Some(token) = &self.token {
            mistakes.push(token.mistake("`token` is for a webhook").help("a poll logs in by `auth: { bearer: … }`"));
        }
        let times = [("every", self.every), ("timeout", self.timeout), ("write_timeout", self.write_timeout)];
        let outside = |(key, time): (&str, Option<Located<settings::Duration>>)| time?.outside(key, SPANS);
        mistakes.extend(times.into_iter().filter_map(outside));
        let offline_after = self.offline_after.unwrap_or(Located::nowhere(DEFAULT_OFFLINE_AFTER));
        mistakes.extend(offline_after.outside("offline_after", 1..=1000));
        let url = url(get, get, mistakes);
        let endpoint = Endpoint {
            client: client.clone(),
            auth: self.auth.as_ref().and_then(|auth| plan_auth(auth, mistakes)),
            headers: header_map(&self.headers, mistakes),
        };
        let writes = self.points.iter();
        let writes =
            writes.filter_map(|(name, point)| plan_write(name, point.write.as_ref()?, source.as_ref(), mistakes));
        let writes = writes.collect();
        Some(PollPlan {
            url: url?,
            endpoint,
            source: source?,
            time,
            writes,
            every: self.every.map_or(DEFAULT_EVERY, |every| every.0),
            timeout: self.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.0),
            write_timeout: self.write_timeout.map_or(DEFAULT_WRITE_TIMEOUT, |timeout| timeout.0),
            offline_after: *offline_after,
        })
    }

    fn check_hook(&self, path: &Located<String>, mistakes: &mut Vec<Mistake>) {
        // Other characters arrive as %XX, and the path would never match.
        let plain = |character: char| character.is_ascii_alphanumeric() || "/-._~!$&'()*+,;=:@%".contains(character);
        if !path.starts_with('/') || !path.chars().all(plain) {
            mistakes.push(path.mistake("a webhook is a path such as /hooks/doorbell"));
        }
        if let Some(token) = self.token.as_ref().filter(|token| token.reveal().is_empty()) {
            mistakes.push(token.mistake("the token is empty"));
        }
        let of_polls = [
            ("every", self.every.map(|key| key.place)),
            ("timeout", self.timeout.map(|key| key.place)),
            ("offline_after", self.offline_after.map(|key| key.place)),
            ("write_timeout", self.write_timeout.map(|key| key.place)),
            ("auth", self.auth.as_ref().map(|key| key.place)),
            ("headers", self.headers.first().map(|(key, _)| key.place)),
        ];
        for (key, place) in of_polls {
            if let Some(place) = place {
                mistakes.push(Mistake::new(place, format!("`{key}` is for `get`: nothing is polled here")));
            }
        }
        for write in self.points.values().filter_map(|point| point.write.as_ref()) {
            mistakes.push(write.mistake("`write` is for `get`: a webhook only listens"));
        }
    }
}

fn plan_point<'a>(
    name: &'a Located<String>,
    point: &PointSettings,
    mistakes: &mut Vec<Mistake>,
) -> Option<PointPlan<'a>> {
    let selector = match &point.path {
        Some(path) => Selector::Path(json_path(path, mistakes)?),
        None => Selector::Field(name.value.clone()),
    };
    Some(PointPlan {
        name,
        selector,
        kind: point.kind,
        scale: point.scale,
        offset: point.offset,
        reporting: Reporting {
            unit: point.unit.as_ref().map(|unit| unit.value.clone()),
            on_change: point.on_change,
            deadband: point.deadband,
            max_silence: point.max_silence,
            round: point.round,
        },
        publishing: Publishing { topic: point.topic.clone(), qos: point.qos, retain: point.retain, payload: None },
    })
}

fn json_path(text: &Located<String>, mistakes: &mut Vec<Mistake>) -> Option<JsonPath> {
    JsonPath::parse(text).map_err(|error| mistakes.push(text.mistake(error.to_string()))).ok()
}

/// `text` as a URL; the mistake, if it is none, is at `place`.
fn url(place: &Located<String>, text: &str, mistakes: &mut Vec<Mistake>) -> Option<Url> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(url),
        Ok(_) => {
            mistakes.push(place.mistake("a URL here begins with http:// or https://"));
            None
        }
        Err(error) => {
            mistakes.push(place.mistake(format!("no URL: {error}")).help("for example http://192.168.1.40/status"));
            None
        }
    }
}

fn plan_auth(auth: &Located<AuthSettings>, mistakes: &mut Vec<Mistake>) -> Option<Auth> {
    let ways = [auth.basic.is_some(), auth.digest.is_some(), auth.bearer.is_some(), !auth.header.is_empty()];
    if ways.into_iter().filter(|way| *way).count() != 1 {
        mistakes.push(auth.mistake("auth is one of `basic`, `digest`, `bearer` and `header`"));
        return None;
    }
    let user = auth.basic.as_ref().or(auth.digest.as_ref());
    match (user, &auth.password) {
        (Some(_), None) => {
            mistakes.push(auth.mistake("auth has a user and no password"));
            return None;
        }
        (None, Some(password)) => mistakes.push(password.mistake("`password` goes with `basic` and `digest`")),
        _ => {}
    }
    let password = auth.password.as_ref().map_or_else(|| Secret::new(""), |password| password.value.clone());
    Some(match (&auth.basic, &auth.digest, &auth.bearer) {
        (Some(user), _, _) => Auth::Basic { user: user.value.clone(), password },
        (_, Some(user), _) => Auth::Digest { user: user.value.clone(), password },
        (_, _, Some(token)) => Auth::Bearer(token.value.clone()),
        _ => Auth::Headers(header_map(&auth.header, mistakes)),
    })
}

fn header_map(headers: &IndexMap<Located<String>, Located<Secret>>, mistakes: &mut Vec<Mistake>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let header = HeaderName::from_bytes(name.as_bytes());
        match (header, HeaderValue::from_str(value.reveal())) {
            (Ok(header), Ok(mut value)) => {
                value.set_sensitive(true);
                map.insert(header, value);
            }
            (Err(_), _) => mistakes.push(name.mistake("no name of a header")),
            (_, Err(_)) => mistakes.push(value.mistake("no value of a header")),
        }
    }
    map
}

fn plan_write(
    name: &Located<String>,
    write: &Located<WriteSettings>,
    source: Option<&Source>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Write> {
    let targets: Vec<(Method, &Located<String>)> =
        [(Method::GET, &write.get), (Method::POST, &write.post), (Method::PUT, &write.put)]
            .into_iter()
            .filter_map(|(method, target)| Some((method, target.as_ref()?)))
            .collect();
    let [(method, target)] = &targets[..] else {
        mistakes.push(write.mistake("write is one of `get`, `post` and `put`"));
        return None;
    };
    if let Some(body) = write.body.as_ref().filter(|_| *method == Method::GET) {
        mistakes.push(body.mistake("a GET has no body").help("use `post` or `put`"));
    }
    let body = write.body.as_ref().map(|body| body.value.clone());
    if !target.contains(VALUE) && !body.as_ref().is_some_and(|body| body.contains(VALUE)) {
        mistakes.push(write.mistake("neither the URL nor the body of `write` has `{value}`"));
    }
    url(target, &target.replace(VALUE, "1"), mistakes)?;
    let limits = Limits { min: write.min, max: write.max };
    mistakes.extend(limits.problem().map(|problem| write.mistake(problem)));
    // A source that could not be planned has its own mistakes.
    let (topic, writing) = source?.writing(name)?;
    Some(Write {
        point: name.value.clone(),
        topic: topic.clone(),
        method: method.clone(),
        url: target.value.clone(),
        body,
        limits,
        writing,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn settings(settings: Json) -> Settings {
        serde_json::from_value(settings).unwrap()
    }

    fn plan(json: Json) -> Result<Planned, Vec<String>> {
        let name = Located::nowhere("plug".to_owned());
        let planned = settings(json).plan(&name, "edge", &Publishing::default(), &Client::default());
        planned.map_err(|mistakes| mistakes.into_iter().map(|mistake| mistake.message).collect())
    }

    fn mistakes(json: Json) -> Vec<String> {
        plan(json).err().unwrap_or_default()
    }

    #[test]
    fn the_sources_of_the_reference_plan() {
        let plug = json!({
            "get": "http://192.168.1.40/rpc/Switch.GetStatus?id=0", "every": "10s", "timeout": "5s",
            "auth": {"digest": "admin", "password": "secret"},
            "points": {
                "on": {"path": "$.output", "write": {"get": "http://192.168.1.40/rpc/Switch.Set?id=0&on={value}"}},
                "power": {"path": "$.apower", "unit": "W"},
            },
        });
        let Ok(Planned::Poll(poll)) = plan(plug) else { panic!("no poll") };
        let topics: Vec<String> = poll.command_topics().iter().map(|command| command.topic.to_string()).collect();
        assert_eq!(topics, ["edge/plug/on/set"]);
        let doorbell = json!({"webhook": "/hooks/doorbell", "token": "t", "points": {"pressed": {"path": "$.event"}}});
        assert!(matches!(plan(doorbell), Ok(Planned::Webhook(hook)) if hook.path() == "/hooks/doorbell"));
    }

    #[test]
    fn every_mistake_is_found_at_once() {
        let found = mistakes(json!({
            "get": "192.168.1.40/status", "every": "0s", "offline_after": 0, "token": "t", "time": "time",
            "auth": {"basic": "a", "bearer": "b"}, "headers": {"a b": "c"},
            "points": {
                "on": {"path": "$.[", "write": {"get": "http://plug/on"}},
                "error": {"write": {"get": "http://plug/{value}", "put": "http://plug/{value}"}},
            },
        }));
        assert_eq!(found.len(), 11, "{found:#?}");
    }

    #[test]
    fn get_and_webhook_exclude_each_other() {
        let both = json!({"get": "http://plug/", "webhook": "/hooks/x"});
        assert_eq!(mistakes(both), ["a source has `get` or `webhook`, not both"]);
        assert_eq!(mistakes(json!({})), ["`plug` has neither `get` nor `webhook`"]);
        let hook = json!({"webhook": "hooks", "every": "1s", "points": {"p": {"write": {"get": "http://x/{value}"}}}});
        assert_eq!(
            mistakes(hook),
            [
                "a webhook is a path such as /hooks/doorbell",
                "`every` is for `get`: nothing is polled here",
                "`write` is for `get`: a webhook only listens",
            ]
        );
    }

    #[test]
    fn two_hooks_on_one_path_are_a_mistake() {
        let sources: Named<Settings> = serde_json::from_value(json!({
            "door": {"webhook": "/hooks/a"}, "bell": {"webhook": "/hooks/a"}, "gate": {"webhook": "/hooks/b"},
        }))
        .unwrap();
        let messages: Vec<String> = conflicting_hooks(&sources).into_iter().map(|mistake| mistake.message).collect();
        assert_eq!(messages, ["`door` has the webhook /hooks/a already"]);
    }

    #[test]
    fn secrets_do_not_print() {
        let settings = settings(json!({
            "get": "http://plug/", "token": "s3cret", "auth": {"basic": "a", "password": "s3cret"},
            "headers": {"X-Key": "s3cret"},
        }));
        assert!(!format!("{settings:?}").contains("s3cret"));
    }
}
