//! What a bridge's route sends instead of a payload, and beside it.

use crate::broker::delivery::{Route, time_of};
use crate::mapping::hop_payload::{HopPayload, Outgoing};
use crate::mqtt::{Millis, Publication, Version};

/// What goes out for a publication.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// Whether another payload than its own goes out.
    pub(super) is_made: bool,
    time: Option<String>,
    is_certain: bool,
}

impl Shape {
    /// What `route` makes of a publication that came at `since`, for a peer of `version`. Another payload than its own
    /// is written to `scratch`.
    pub(super) fn by(
        route: &Route,
        publication: &Publication<'_>,
        version: Version,
        since: Millis,
        scratch: &mut Vec<u8>,
    ) -> Self {
        let reading = publication.reading().map(|reading| &**reading);
        // Most messages: nobody asks for the time.
        if route.payload == HopPayload::AsPublished && (reading.is_none() || version == Version::V3) {
            return Self::default();
        }
        let time = time_of(reading, since);
        let message = Outgoing { topic: publication.topic, payload: publication.payload, reading, time };
        scratch.clear();
        let is_made = route.payload.encode(&message, scratch);
        let time_told = if version == Version::V5 { route.payload.user_time(&message) } else { None };
        Self { is_made, time: time_told, is_certain: time.is_certain() }
    }

    /// The user properties that the hop adds: the time of a reading where the payload does not tell it, and whether that
    /// is in doubt.
    pub(super) fn user_properties<'a>(&'a self, room: &'a mut [(&'a str, &'a str); 2]) -> &'a [(&'a str, &'a str)] {
        let Some(time) = &self.time else {
            return &[];
        };
        *room = [("time", time), ("quality", "uncertain")];
        &room[..if self.is_certain { 1 } else { 2 }]
    }
}
