//! What a bridge's route sends instead of a payload, and beside it.

use std::cell::RefCell;

use super::hop::Refused;
use crate::broker::delivery::Route;
use crate::broker::envelope::Sealed;
use crate::clock;
use crate::mapping::hop_payload::{HopPayload, Outgoing};
use crate::mqtt::{Millis, Publication, Version};

/// A buffer that has grown beyond this is not kept.
const MAX_KEPT_BYTES: usize = 64 * 1024;

thread_local! {
    /// Where payloads are made, one at a time.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What goes out for a publication.
#[derive(Debug, Default)]
pub(super) struct Made {
    payload: Option<Vec<u8>>,
    time: Option<String>,
    is_certain: bool,
}

impl Made {
    /// What `route` makes of a publication that came at `since`, for a peer of `version`. It has made `topic` of its
    /// topic, which becomes another where the server has forms of its own.
    pub(super) fn by(
        route: &Route,
        publication: &Publication<'_>,
        version: Version,
        since: Millis,
        topic: &mut String,
    ) -> Result<Self, Refused> {
        let reading = publication.reading().map(|reading| &**reading);
        let is_plain = route.payload == HopPayload::AsPublished && route.envelope.is_none();
        if is_plain && (reading.is_none() || version == Version::V3) {
            return Ok(Self::default());
        }
        let time = reading.map_or_else(|| clock::wall_of(since), |reading| clock::correct(reading.sampled));
        let message = Outgoing { topic: publication.topic, payload: publication.payload, reading, time };
        let mut scratch = SCRATCH.take();
        scratch.clear();
        let is_made = route.payload.encode(&message, &mut scratch);
        let mut payload = if is_made {
            Some(scratch)
        } else {
            SCRATCH.set(scratch);
            None
        };
        if let Some(envelope) = &route.envelope {
            match envelope.seal(topic, payload.as_deref().unwrap_or(publication.payload), &message) {
                Sealed::AsItIs => {}
                Sealed::As { topic: sealed, payload: other } => {
                    *topic = sealed;
                    payload = other.or(payload);
                }
                Sealed::Nothing(reason) => return Err(Refused::Topic(reason.into())),
            }
        }
        let time_told = if version == Version::V5 { route.payload.user_time(&message) } else { None };
        Ok(Self { payload, time: time_told, is_certain: time.is_certain() })
    }

    /// What goes out instead of the payload.
    pub(super) fn payload(&self) -> Option<&[u8]> {
        self.payload.as_deref()
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

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(payload) = self.payload.take().filter(|payload| payload.capacity() <= MAX_KEPT_BYTES) {
            SCRATCH.set(payload);
        }
    }
}
