//! The configuration that the demo runs: a text like anybody's, with the ports that were free put in.

/// What differs from one demo to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Port of the gateway's broker.
    pub gateway: u16,
    /// Port of the broker that plays the cloud.
    pub cloud: u16,
    /// Port of the gateway's webhooks.
    pub webhooks: u16,
    /// Port of the Modbus TCP meter.
    pub modbus: u16,
    /// Port of the HTTP plug.
    pub plug: u16,
    /// Serial port of the Modbus RTU line.
    pub rtu: String,
    /// Serial port of the satellite receiver.
    pub gps: String,
}

/// The door's token. It is no secret: the demo listens on this machine alone.
pub const TOKEN: &str = "demo";
/// The path of the door's webhook.
pub const HOOK: &str = "/hooks/door";
/// The file's name.
pub const FILE: &str = "edgeway.yaml";

impl Default for Places {
    /// The usual ports, and serial ports as they are mostly called.
    fn default() -> Self {
        Self {
            gateway: 1883,
            cloud: 1884,
            webhooks: 8081,
            modbus: 1502,
            plug: 8090,
            rtu: "/dev/ttyUSB0".into(),
            gps: "/dev/ttyACM0".into(),
        }
    }
}

/// The text of the configuration.
pub fn text(places: &Places) -> String {
    let mut text = TEMPLATE.to_owned();
    for (name, value) in [
        ("@GATEWAY@", places.gateway.to_string()),
        ("@CLOUD@", places.cloud.to_string()),
        ("@WEBHOOKS@", places.webhooks.to_string()),
        ("@MODBUS@", places.modbus.to_string()),
        ("@PLUG@", places.plug.to_string()),
        ("@RTU@", places.rtu.clone()),
        ("@GPS@", places.gps.clone()),
        ("@TOKEN@", TOKEN.to_owned()),
        ("@HOOK@", HOOK.to_owned()),
    ] {
        text = text.replace(name, &value);
    }
    text
}

const TEMPLATE: &str = r#"# What `edgeway demo` runs: five devices, the gateway with its broker, and a bridge to the cloud.
# With your own ports and addresses in it, `edgeway run -c FILE` does the same with real devices.

gateway: { name: demo }
broker: { listen: "mqtt://127.0.0.1:@GATEWAY@" }
storage: { path: data }              # beside this file; without it /var/lib/edgeway
webhooks: { listen: "127.0.0.1:@WEBHOOKS@" }

modbus:
  cabinet:                           # a three-phase meter with a relay, over Modbus TCP
    host: "127.0.0.1:@MODBUS@"
    devices:
      meter:
        id: 1
        every: 1s
        points:
          power:   { input: 0x0034, type: float32, unit: W, round: 1 }
          voltage: { input: 0x0000, type: float32, unit: V, round: 1 }
          energy:  { input: 0x0048, type: float32, unit: kWh, round: 3 }
          relay:   { coil: 0, write: true }            # true or false on demo/meter/relay/set
  line:                              # a serial line with two units, one of which is dead
    port: @RTU@
    baud: 19200
    timeout: 300ms
    retries: 1
    offline_after: 2
    every: 2s
    devices:
      hall:
        id: 1
        points:
          power:     { input: 0x0034, type: float32, unit: W, round: 1 }
          frequency: { input: 0x0046, type: float32, unit: Hz, round: 2 }
      spare:                         # nobody answers: it is offline, and the hall goes on
        id: 9
        points: { power: { input: 0x0034, type: float32, unit: W } }

serial:
  gps:                               # a satellite receiver
    port: @GPS@
    parse: nmea
    every: 1s
    payload: object                  # one JSON object on demo/gps
    points: { lat: { round: 6 }, lon: { round: 6 }, speed: { round: 1 }, satellites: {} }

http:
  plug:                              # polled, and switched by demo/plug/on/set
    get: http://127.0.0.1:@PLUG@/rpc/Switch.GetStatus?id=0
    every: 2s
    points:
      on:    { path: $.output, write: { get: "http://127.0.0.1:@PLUG@/rpc/Switch.Set?id=0&on={value}" } }
      power: { path: $.apower, unit: W, round: 1 }
  door:                              # reports by itself
    webhook: @HOOK@
    token: @TOKEN@
    points: { open: {}, openings: {} }

bridges:
  cloud:
    url: mqtt://127.0.0.1:@CLOUD@
    keep_alive: 10s
    send:                            # the first route that matches; qos is that of this hop
      - { from: "{gateway}/gps",    to: "fleet/{gateway}",  qos: 0 }   # the newest is all that counts
      - { from: "{gateway}/door/#", to: "berlin/door/#",    qos: 2 }   # each opening exactly once
      - { from: "{gateway}/#",      to: "berlin/#",         qos: 1 }   # nothing is lost
    receive:                         # commands from the cloud
      - { from: "cmd/{gateway}/+/+", to: "{gateway}/+/+/set", qos: 1, max_age: 30s }
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};

    #[test]
    fn the_configuration_has_no_mistakes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        std::fs::write(&file, text(&Places::default())).unwrap();
        let configuration = config::read(&file, &Environment::process()).map_err(|refused| refused.render(false));
        let resolved = configuration.unwrap().resolved;
        assert_eq!(resolved.gateway, "demo");
        assert_eq!(resolved.bridges[0].send.len(), 3);
        assert!(resolved.bridges[0].will.is_some(), "the cloud learns that the gateway is gone");
    }

    #[test]
    fn every_place_is_put_in() {
        let text = text(&Places { gateway: 41883, rtu: "/dev/pts/7".into(), ..Places::default() });
        assert!(text.contains("mqtt://127.0.0.1:41883") && text.contains("port: /dev/pts/7"), "{text}");
        assert!(!text.contains('@'), "{text}");
    }
}
