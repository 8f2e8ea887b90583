//! Devices that post to us, with and without a token.

use super::support::edgeway::Edgeway;
use super::support::http::post;
use super::support::mosquitto::{Mosquitto, mosquitto_sub};
use super::support::ports::free_port;

#[test]
fn a_post_with_the_token_goes_to_the_cloud_and_one_without_is_refused() {
    let cloud = Mosquitto::start();
    let at_cloud = mosquitto_sub(cloud.port, &["-t", "#", "-q", "1", "-F", "%t %q %p"]);
    let hooks = free_port();
    let gateway = Edgeway::start(&format!(
        r#"
gateway: {{ name: edge }}
broker: {{ listen: "mqtt://127.0.0.1:@PORT@" }}
webhooks: {{ listen: "127.0.0.1:{hooks}" }}
http:
  doorbell:
    webhook: /hooks/doorbell
    token: t0ken
    points: {{ pressed: {{ path: $.event }} }}
  open:
    webhook: /hooks/open
bridges:
  cloud: {{ url: "mqtt://127.0.0.1:{}", send: [ {{ from: "{{gateway}}/#", to: "home/#", qos: 1 }} ] }}
"#,
        cloud.port
    ));
    let seen = mosquitto_sub(gateway.port, &["-t", "edge/#", "-q", "1", "-F", "%t %p"]);
    seen.until("edge/doorbell/status offline");
    let ring = r#"{"event": "ring"}"#;
    let json = "Content-Type: application/json\r\n";
    assert_eq!(post(hooks, "/hooks/doorbell", json, ring), 401);
    assert_eq!(post(hooks, "/hooks/doorbell", "Authorization: Bearer other\r\n", ring), 401);
    assert_eq!(post(hooks, "/hooks/nobody", json, ring), 404);
    assert_eq!(post(hooks, "/hooks/doorbell", "Authorization: Bearer t0ken\r\n", "{"), 400);
    // The listener of the hooks serves nothing else, and the broker's no hooks.
    assert_eq!(post(hooks, "/", json, ring), 404);
    assert_eq!(post(hooks, "/hooks/doorbell", "Authorization: Bearer t0ken\r\n", ring), 204);
    seen.until("edge/doorbell/status online");
    seen.until("edge/doorbell/pressed ring");
    at_cloud.until("home/doorbell/pressed 1 ring");
    assert_eq!(post(hooks, "/hooks/open", "Content-Type: text/plain\r\n", "hello"), 204);
    at_cloud.until("home/open 1 hello");
    let pressed = seen.rest().into_iter().filter(|line| line.contains("/pressed")).count();
    assert_eq!(pressed, 0, "what was refused is not published");
}
