//! What `check` says of a configuration, and `run` of one that it cannot run.

use super::support::edgeway::{Edgeway, edgeway};
use super::support::ports::free_port;
use std::net::TcpListener;
use std::path::Path;

fn write(folder: &Path, text: &str) {
    std::fs::write(folder.join("edgeway.yaml"), text).expect("the temporary folder can be written");
}

const MISTAKES: &str = r#"gateway: { name: edge }
modbus:
  line:
    port: /dev/ttyUSB0
    bauds: 9600
    devices:
      meter:
        id: 300
        points:
          power: { holding: 12, type: float, unit: W }
http:
  plug:
    get: http://192.168.1.40/status
    every: 10
bridges:
  cloud:
    url: mqtt://cloud.example.com
    send: [ { from: "{gateway}/#", to: "site/+", qos: 1 } ]
"#;

#[test]
fn five_mistakes_are_five_diagnostics_of_check_and_of_run() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), MISTAKES);
    let [check, run] = ["check", "run"].map(|command| {
        let (status, output, said) = edgeway(&[command, "-c", "edgeway.yaml"], folder.path());
        assert_eq!((status.code(), output.as_str()), (Some(2), ""), "{command}");
        said
    });
    assert_eq!(check, run);
    insta::assert_snapshot!(check, @r##"
    error: unknown key `bauds`
     --> edgeway.yaml:5:5
      |
    5 |     bauds: 9600
      |     ^^^^^
      |
      = help: did you mean `baud`?

    error: a unit id is 0 to 247, or 255
     --> edgeway.yaml:8:13
      |
    8 |         id: 300
      |             ^^^

    error: `float` is no type
      --> edgeway.yaml:10:39
       |
    10 |           power: { holding: 12, type: float, unit: W }
       |                                       ^^^^^
       |
       = help: did you mean `float32`?

    error: `10` is not a duration
      --> edgeway.yaml:14:12
       |
    14 |     every: 10
       |            ^^
       |
       = help: a duration is a number with ms, s, m, h or d, for example 500ms, 5s or 1d

    error: the wildcards of `site/+` are not those of `edge/#`
      --> edgeway.yaml:18:40
       |
    18 |     send: [ { from: "{gateway}/#", to: "site/+", qos: 1 } ]
       |                     -------------      ^^^^^^^^
       |                     |
       |                     `from`
       |
       = help: `+` and `#` of `to` stand for those of `from` in their order; or `to` has none

    5 mistakes in the configuration
    "##);
}

#[test]
fn check_says_what_would_run() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "gateway: { name: edge }\nhttp:\n  plug: { get: \"http://127.0.0.1/\", points: { on: {} } }\n",
    );
    let (status, output, said) = edgeway(&["check", "-c", "edgeway.yaml"], folder.path());
    assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{output}");
    assert!(output.contains("plug"), "{output}");
}

#[test]
fn a_port_that_is_taken_is_said_by_whom() {
    let me = std::env::current_exe().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let (taken, free) = (holder.local_addr().unwrap().port(), free_port());
    let folder = tempfile::tempdir().unwrap();
    for (broker, webhooks) in [(taken, free), (free, taken)] {
        let listen = format!(
            "broker: {{ listen: \"mqtt://127.0.0.1:{broker}\" }}\nwebhooks: {{ listen: \"127.0.0.1:{webhooks}\" }}\n"
        );
        write(folder.path(), &format!("{listen}http: {{ bell: {{ webhook: /bell }} }}\n"));
        let (status, _, said) = edgeway(&["run", "-c", "edgeway.yaml"], folder.path());
        assert_eq!(status.code(), Some(1), "{said}");
        let last = said.lines().last().unwrap_or_default();
        let begin = format!("edgeway: cannot listen: port {taken} is taken by ");
        assert!(last.starts_with(&begin), "{said}");
        // The kernel keeps 15 characters of a program's name.
        assert!(last.contains(&me[..me.len().min(15)]) && last.contains(&std::process::id().to_string()), "{said}");
    }
}

#[test]
fn another_gateway_that_holds_the_port_is_named() {
    let mut first = Edgeway::start("broker: { listen: \"mqtt://127.0.0.1:@PORT@\" }\n");
    let pid = first.peer().id().to_string();
    let (status, _, said) = edgeway(&["run", "-c", "edgeway.yaml"], first.folder());
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("edgeway") && said.contains(&pid), "{said}");
}
