//! Payloads as JSON, where a cloud takes nothing else.

use serde_json::{Value as Json, json};

use crate::mapping::carried::Carried;
use crate::mapping::hop_payload::Outgoing;

/// The value that a message carries.
pub fn carried(message: &Outgoing<'_>) -> Json {
    let mut text = Vec::new();
    Carried::of(message.payload, message.reading).put_json(&mut text);
    value(&text)
}

/// A payload as a JSON value: JSON stays JSON, all else is text.
fn value(payload: &[u8]) -> Json {
    serde_json::from_slice(payload).unwrap_or_else(|_| json!(String::from_utf8_lossy(payload)))
}

/// The `id` of a command `{value, id}`.
pub fn id_of_command(payload: &[u8]) -> Option<Json> {
    let Ok(Json::Object(mut object)) = serde_json::from_slice(payload) else {
        return None;
    };
    object.contains_key("value").then(|| object.remove("id")).flatten()
}

/// The `id` of a result `{id, result}`.
pub fn id_of_result(payload: &[u8]) -> Option<Json> {
    let Ok(Json::Object(mut object)) = serde_json::from_slice(payload) else {
        return None;
    };
    object.contains_key("result").then(|| object.remove("id")).flatten()
}

/// A result as a JSON object: `{"result": "ok"}`, or what it is where it is one.
pub fn result_object(payload: &[u8]) -> Json {
    match value(payload) {
        object @ Json::Object(_) => object,
        other => json!({ "result": other }),
    }
}
