//! Shared access signatures of Azure: tokens that a key signs and that end by themselves.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use super::percent::encoded;
use crate::settings::Secret;

/// A device's symmetric key.
#[derive(Clone)]
pub struct Key(hmac::Key);

impl Key {
    /// The key that stands in base64 in `text`, as the portal shows it; `None` where that is no base64, or is empty.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.trim()).ok().filter(|bytes| !bytes.is_empty())?;
        Some(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The token for `resource`, for example `hub.azure-devices.net/devices/edge-01`, that ends at `expiry` (seconds
    /// since the Unix epoch).
    pub fn token(&self, resource: &str, expiry: i64) -> Secret {
        let resource = encoded(resource);
        let signature = hmac::sign(&self.0, format!("{resource}\n{expiry}").as_bytes());
        let signature = encoded(&STANDARD.encode(signature));
        Secret::new(format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
