//! All adapters: each is one section of the configuration. A new one brings a line here, and a section.

use crate::settings::{Located, Mistake, Named, Place};

use super::point::Publishing;
use super::{Adapter, CommandTopic, Published, http, modbus, serial};

/// The sections of the adapters.
#[derive(Debug, Clone, Copy)]
pub struct Sections<'a> {
    /// `modbus`
    pub modbus: &'a Named<modbus::Settings>,
    /// `serial`
    pub serial: &'a Named<serial::Settings>,
    /// `http`
    pub http: &'a Named<http::Settings>,
}

/// What the sections made.
#[derive(Default)]
pub struct Planned {
    /// One per bus, port or source, ready to run.
    pub adapters: Vec<Box<dyn Adapter>>,
    /// Devices that post to us; they share the listener of `webhooks`.
    pub hooks: Vec<http::Hook>,
    /// What is wrong.
    pub mistakes: Vec<Mistake>,
}

impl std::fmt::Debug for Planned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.adapters.iter().map(|adapter| adapter.name()).collect();
        f.debug_struct("Planned").field("adapters", &names).field("mistakes", &self.mistakes).finish()
    }
}

impl<'a> Sections<'a> {
    /// The names of all devices.
    pub fn devices(&self) -> Vec<&'a Located<String>> {
        let modbus = self.modbus.values().flat_map(|bus| bus.devices.keys());
        modbus.chain(self.serial.keys()).chain(self.http.keys()).collect()
    }

    /// Plans all adapters of the gateway called `gateway`; `defaults` is what it says of their messages. Entries at
    /// places that are not `complete` are left out: values are missing in them that may have been there.
    pub fn plan(&self, gateway: &str, defaults: &Publishing, complete: impl Fn(Place) -> bool) -> Planned {
        let mut planned = Planned::default();
        for (name, settings) in self.modbus.iter().filter(|(_, settings)| complete(settings.place)) {
            planned.add(settings.plan(name, gateway, defaults).map(|bus| Box::new(bus) as Box<dyn Adapter>));
        }
        for (name, settings) in self.serial.iter().filter(|(_, settings)| complete(settings.place)) {
            planned.add(settings.plan(name, gateway, defaults));
        }
        // One client, so that connections and names are shared.
        let client = http::Client::default();
        for (name, settings) in self.http.iter().filter(|(_, settings)| complete(settings.place)) {
            match settings.plan(name, gateway, defaults, &client) {
                Ok(http::Planned::Poll(poll)) => planned.adapters.push(poll),
                Ok(http::Planned::Webhook(hook)) => planned.hooks.push(hook),
                Err(mistakes) => planned.mistakes.extend(mistakes),
            }
        }
        planned.mistakes.extend(http::conflicting_hooks(self.http));
        planned
    }
}

impl Planned {
    /// What all of them will publish.
    pub fn published(&self) -> Vec<Published> {
        let of_adapters = self.adapters.iter().flat_map(|adapter| adapter.published());
        of_adapters.chain(self.hooks.iter().flat_map(http::Hook::published)).collect()
    }

    /// The topics on which they take commands.
    pub fn command_topics(&self) -> Vec<CommandTopic> {
        self.adapters.iter().flat_map(|adapter| adapter.command_topics()).collect()
    }

    /// The names of all their devices.
    pub fn devices(&self) -> Vec<String> {
        let of_adapters = self.adapters.iter().flat_map(|adapter| adapter.devices());
        of_adapters.chain(self.hooks.iter().map(|hook| hook.device().to_owned())).collect()
    }

    fn add(&mut self, adapter: Result<Box<dyn Adapter>, Vec<Mistake>>) {
        match adapter {
            Ok(adapter) => self.adapters.push(adapter),
            Err(mistakes) => self.mistakes.extend(mistakes),
        }
    }
}
