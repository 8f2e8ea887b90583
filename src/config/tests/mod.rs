//! Whole configurations: what a user reads when something is wrong.

mod clients;

use std::path::Path;

use super::*;

fn environment() -> Environment<'static> {
    Environment {
        variable: &|name| match name {
            "PASSWORD" => Some("hunter2-from-outside".into()),
            "INTERVAL" => Some("hunter3-is-no-duration".into()),
            _ => None,
        },
        host_name: "edge-01".into(),
    }
}

fn read_files(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Configuration, String>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let path = if files.len() == 1 { folder.path().join(files[0].0) } else { folder.path().to_path_buf() };
    let read = read(&path, &environment());
    let shown = read.map_err(|refused| refused.render(false).replace(&folder.path().display().to_string(), ""));
    (folder, shown)
}

fn mistakes(text: &str) -> String {
    read_files(&[("edgeway.yaml", text)]).1.unwrap_err()
}

#[test]
fn five_mistakes_give_five_diagnostics_at_their_places() {
    let text = "\
gateway:
  name: edge/01
  qos: 3
brokr:
  listen: mqtt://127.0.0.1:1883
bridges:
  cloud:
    url: mqtt://cloud.example.com
    keep_alive: 30 parsecs
    send:
      - { from: \"{gateway}/+\", to: \"site/#\" }
";
    insta::assert_snapshot!(mistakes(text), @r##"
    error: `edge/01` is no name of a gateway
     --> /edgeway.yaml:2:9
      |
    2 |   name: edge/01
      |         ^^^^^^^
      |
      = help: a name is one level of a topic: it has no `/`, `+` or `#`

    error: `3` is not a QoS
     --> /edgeway.yaml:3:8
      |
    3 |   qos: 3
      |        ^
      |
      = help: a QoS is 0 (at most once), 1 (at least once) or 2 (exactly once)

    error: unknown key `brokr`
     --> /edgeway.yaml:4:1
      |
    4 | brokr:
      | ^^^^^
      |
      = help: did you mean `broker`?

    error: `30 parsecs` is not a duration
     --> /edgeway.yaml:9:17
      |
    9 |     keep_alive: 30 parsecs
      |                 ^^^^^^^^^^
      |
      = help: a duration is a number with ms, s, m, h or d, for example 500ms, 5s or 1d

    error: the wildcards of `site/#` are not those of `edge-01/+`
      --> /edgeway.yaml:11:36
       |
    11 |       - { from: "{gateway}/+", to: "site/#" }
       |                 -------------      ^^^^^^^^
       |                 |
       |                 `from`
       |
       = help: `+` and `#` of `to` stand for those of `from` in their order; or `to` has none

    5 mistakes in the configuration
    "##);
}

#[test]
fn what_is_not_built_yet_is_refused_in_words() {
    let text = "\
broker: { listen: \"mqtts://127.0.0.1\" }
admin: { listen: \"127.0.0.1:8080\", full: true }
exec: { ups: { command: [python3] } }
";
    insta::assert_snapshot!(mistakes(text), @r##"
    error: a listener with TLS wants `tls`
     --> /edgeway.yaml:1:19
      |
    1 | broker: { listen: "mqtts://127.0.0.1" }
      |                   ^^^^^^^^^^^^^^^^^^^
      |
      = help: for example tls: { cert: server.crt, key: server.key }

    error: `full` is not available yet
     --> /edgeway.yaml:2:36
      |
    2 | admin: { listen: "127.0.0.1:8080", full: true }
      |                                    ^^^^

    error: `exec` is not available yet
     --> /edgeway.yaml:3:1
      |
    3 | exec: { ups: { command: [python3] } }
      | ^^^^

    3 mistakes in the configuration
    "##);
}

#[test]
fn what_storage_and_admin_do_not_allow_is_said_at_its_place() {
    let text = "\
storage: { in_memory: true, path: data }
admin: { listen: \"0.0.0.0:8080\" }
";
    insta::assert_snapshot!(mistakes(text), @r##"
    error: `path` means nothing where nothing is kept on disk
     --> /edgeway.yaml:1:35
      |
    1 | storage: { in_memory: true, path: data }
      |                       ----        ^^^^
      |                       |
      |                       nothing is
      |
      = help: take one of the two away

    error: beyond this machine it wants a `password`
     --> /edgeway.yaml:2:18
      |
    2 | admin: { listen: "0.0.0.0:8080" }
      |                  ^^^^^^^^^^^^^^
      |
      = help: for example password: "${ADMIN_PASSWORD}"

    error: beyond this machine it is not encrypted: TLS is not available yet
     --> /edgeway.yaml:2:18
      |
    2 | admin: { listen: "0.0.0.0:8080" }
      |                  ^^^^^^^^^^^^^^
      |
      = help: write `insecure: true` where that is what you want

    3 mistakes in the configuration
    "##);
    let text = "\
storage:
  commit: 2ms
  commit_min: 5ms
admin: { listen: \"127.0.0.1:8080\" }
webhooks: { listen: \"127.0.0.1:8080\" }
";
    insta::assert_snapshot!(mistakes(text), @r##"
    error: `commit_min` is at most `commit`, which is 2ms
     --> /edgeway.yaml:3:15
      |
    3 |   commit_min: 5ms
      |               ^^^
      |
     ::: /edgeway.yaml:2:11
      |
    2 |   commit: 2ms
      |           --- `commit`

    error: `admin` listens there
     --> /edgeway.yaml:5:21
      |
    5 | webhooks: { listen: "127.0.0.1:8080" }
      |                     ^^^^^^^^^^^^^^^^
      |
      = help: another port

    2 mistakes in the configuration
    "##);
}

#[test]
fn a_payload_with_a_name_that_there_is_not_is_refused_wherever_it_stands() {
    let text = "\
gateway: { payload: \"{valu} W\" }
modbus: { a: { host: h, payload: \"{value} {bridge}\", devices: { b: { id: 1, points: { c: { holding: 1 } } } } } }
http: { d: { get: \"http://x/\", points: { e: { payload: \"{value}\", every: 5s } } } }
";
    let shown = mistakes(text);
    assert!(
        shown.contains("`{valu}` stands for nothing") && shown.contains("help: did you mean `{value}`?"),
        "{shown}"
    );
    assert!(shown.contains("`{bridge}` has no meaning here"), "{shown}");
    assert!(
        shown.contains("`payload` is not available yet") && shown.contains("`every` is not available yet"),
        "{shown}"
    );
    assert!(shown.contains("4 mistakes in"), "{shown}");
}

#[test]
fn a_name_without_meaning_in_a_topic_is_one_mistake_for_each_device() {
    let text = "\
gateway: { topic: \"{gateway}/{bus}/{device}/{point}\" }
modbus: { hall: { host: h, devices: { plc: { id: 1, points: { a: { holding: 1 } } } } } }
http: { plug: { get: \"http://x/\", points: { a: {}, b: {} } } }
";
    insta::assert_snapshot!(mistakes(text), @r#"
    error: `{bus}` has no meaning here, for `plug`
     --> /edgeway.yaml:1:19
      |
    1 | gateway: { topic: "{gateway}/{bus}/{device}/{point}" }
      |                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: in its topics there are {gateway}, {device} and {point}

    1 mistake in the configuration
    "#);
}

#[test]
fn secrets_are_never_shown() {
    let text = "\
bridges:
  a:
    url: [mqtt://edge:hunter1@host, \"mqtt://${PASSWORD}@host\"]
    keep_alive: ${INTERVAL}
    pasword: hunter4
  b: { url: mqtt://b, password: hunter5, client_id: !file secret, session: 'hunter 6', qos: 1 }
  c: { url: mqtt://c, password: [hunter7], password: hunter8, client_id: \"${NONE}\" }
  d: { url: mqtt://d, client_id: \"{${PASSWORD}}\" }
";
    let shown = mistakes(text);
    insta::assert_snapshot!(shown, @r##"
    error: `mqtt://edge:***@host` is no URL of a broker
     --> /edgeway.yaml:3:11
      |
    3 |     url: [mqtt://edge:***@host, "mqtt://${PASSWORD}@host"]
      |           ^^^^^^^^^^^^^^^^^^^^
      |
      = help: a URL has no user and password here: they have keys of their own, `username` and `password`

    error: `mqtt://${PASSWORD}@host` is no URL of a broker
     --> /edgeway.yaml:3:37
      |
    3 |     url: [mqtt://edge:***@host, "mqtt://${PASSWORD}@host"]
      |                                 ^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: a URL has no user and password here: they have keys of their own, `username` and `password`

    error: `${INTERVAL}` is not a duration
     --> /edgeway.yaml:4:17
      |
    4 |     keep_alive: ${INTERVAL}
      |                 ^^^^^^^^^^^
      |
      = help: a duration is a number with ms, s, m, h or d, for example 500ms, 5s or 1d

    error: unknown key `pasword`
     --> /edgeway.yaml:5:5
      |
    5 |     pasword: ***
      |     ^^^^^^^
      |
      = help: did you mean `password`?

    error: cannot read /secret: No such file or directory (os error 2)
     --> /edgeway.yaml:6:53
      |
    6 |   b: { url: mqtt://b, password: ***, client_id: !file secret, session: 'hunter 6', qos: 1 }
      |                                                 ^^^^^^^^^^^^

    error: `hunter 6` is not a duration
     --> /edgeway.yaml:6:76
      |
    6 |   b: { url: mqtt://b, password: ***, client_id: !file secret, session: 'hunter 6', qos: 1 }
      |                                                                        ^^^^^^^^^^
      |
      = help: a duration is a number with ms, s, m, h or d, for example 500ms, 5s or 1d

    error: unknown key `qos`
     --> /edgeway.yaml:6:88
      |
    6 |   b: { url: mqtt://b, password: ***, client_id: !file secret, session: 'hunter 6', qos: 1 }
      |                                                                                    ^^^
      |
      = help: there are url, username, password, client_id, session, keep_alive, ack_timeout, mqtt, tls, proxy, send, receive, will, queue, cloud, device, key, token_lifetime and limit

    error: expected text, found a list
     --> /edgeway.yaml:7:33
      |
    7 |   c: { url: mqtt://c, password: [***], password: ***, client_id: "${NONE}" }
      |                                 ^^^^^

    error: `password` stands here a second time
     --> /edgeway.yaml:7:44
      |
    7 |   c: { url: mqtt://c, password: [***], password: ***, client_id: "${NONE}" }
      |                       --------         ^^^^^^^^
      |                       |
      |                       first here

    error: the environment variable `NONE` is not set
     --> /edgeway.yaml:7:75
      |
    7 |   c: { url: mqtt://c, password: [***], password: ***, client_id: "${NONE}" }
      |                                                                   ^^^^^^^
      |
      = help: set it, or give a default: ${NONE:-...}

    error: `{${PASSWORD}}` stands for nothing; there are {gateway}, {device}, {point}, {bus}, {bridge}
     --> /edgeway.yaml:8:34
      |
    8 |   d: { url: mqtt://d, client_id: "{${PASSWORD}}" }
      |                                  ^^^^^^^^^^^^^^^

    11 mistakes in the configuration
    "##);
    for secret in ["hunter1", "hunter2", "hunter3", "hunter4", "hunter5", "hunter7", "hunter8"] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[test]
fn a_configuration_prints_without_its_secrets() {
    let text = "bridges: { a: { url: mqtt://a, username: u, password: \"${PASSWORD}\" } }\n";
    let configuration = read_files(&[("edgeway.yaml", text)]).1.unwrap();
    assert_eq!(configuration.resolved.bridges[0].password.as_ref().unwrap().reveal(), "hunter2-from-outside");
    assert!(!format!("{configuration:?}").contains("hunter2"));
}

#[test]
fn a_secret_on_the_line_of_a_syntax_error_is_not_shown() {
    let shown = mistakes("bridges:\n  a: { url: mqtt://a, password: \"hunter2\n");
    assert!(!shown.contains("hunter2") && shown.contains("edgeway.yaml:2:"), "{shown}");
}

#[test]
fn a_folder_is_merged_by_section_and_a_name_twice_names_both_places() {
    let one = "gateway: { name: edge-07 }\nbridges:\n  cloud: { url: mqtt://a }\n";
    let two = "bridges:\n  office: { url: mqtt://b }\nlog: { level: debug }\n";
    let (_folder, read) = read_files(&[("10.yaml", one), ("20.yaml", two), ("notes.txt", "- no yaml")]);
    let configuration = read.unwrap();
    assert_eq!(configuration.resolved.gateway, "edge-07");
    assert_eq!(
        configuration.resolved.bridges.iter().map(|plan| plan.name.as_str()).collect::<Vec<_>>(),
        ["cloud", "office"]
    );

    let three = "bridges:\n  cloud: { url: mqtt://c, qoss: 1 }\n  other: { url: mqtt://c, qoss: 1 }\n";
    let (_folder, read) = read_files(&[("10.yaml", one), ("20.yaml", three)]);
    insta::assert_snapshot!(read.unwrap_err(), @r##"
    error: `cloud` stands in `bridges` a second time
     --> /20.yaml:2:3
      |
    2 |   cloud: { url: mqtt://c, qoss: 1 }
      |   ^^^^^
      |
     ::: /10.yaml:3:3
      |
    3 |   cloud: { url: mqtt://a }
      |   ----- first here

    error: unknown key `qoss`
     --> /20.yaml:3:27
      |
    3 |   other: { url: mqtt://c, qoss: 1 }
      |                           ^^^^
      |
      = help: there are url, username, password, client_id, session, keep_alive, ack_timeout, mqtt, tls, proxy, send, receive, will, queue, cloud, device, key, token_lifetime and limit

    2 mistakes in the configuration
    "##);
}

#[test]
fn bridges_with_one_client_id_at_one_broker_are_refused() {
    let text = "\
bridges:
  a: { url: mqtt://host, client_id: same }
  b: { url: [mqtt://other, mqtt://host], client_id: same }
";
    let shown = mistakes(text);
    assert!(shown.contains("`a` has the same client id at host"), "{shown}");
    assert!(shown.contains("1 mistake in"), "{shown}");
}

#[test]
fn points_that_would_share_a_topic_are_refused() {
    for (topic, message) in [
        ("{gateway}/{device}", "without `{point}` several points share one topic"),
        ("{bridge}/{device}/{point}", "`{bridge}` has no meaning here"),
        ("{gateway}/+/{device}/{point}", "is no topic"),
        ("{gatway}/{device}/{point}", "`{gatway}` stands for nothing"),
    ] {
        let shown = mistakes(&format!("gateway: {{ topic: \"{topic}\" }}\n"));
        assert!(shown.contains(message), "{shown}");
    }
}

#[test]
fn an_empty_configuration_runs_on_defaults() {
    for text in ["", "gateway:\nbridges:\n", "# nothing\n"] {
        let configuration = read_files(&[("edgeway.yaml", text)]).1.unwrap();
        assert_eq!(configuration.resolved.gateway, "edge-01");
        assert_eq!(configuration.resolved.listeners[0].to_string(), "mqtt://127.0.0.1:1883");
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    let (folder, _) = read_files(&[("a.yaml", "")]);
    let path = folder.path().join("bytes.yaml");
    std::fs::write(&path, b"a: 1\nb: \xff\n").unwrap();
    let shown = read(&path, &environment()).unwrap_err().render(false);
    assert!(shown.contains("bytes.yaml:2: this is no text"), "{shown}");
    let empty = tempfile::tempdir().unwrap();
    assert!(read(empty.path(), &environment()).unwrap_err().to_string().contains("has 0 *.yaml files"));
    assert!(matches!(
        read(Path::new("/nowhere/x.yaml"), &environment()),
        Err(Refused::Unreadable(LoadError::Read { .. }))
    ));
}

proptest::proptest! {
    #[test]
    fn arbitrary_files_never_panic(text in "(gateway|broker|bridges|log|a|\\$\\{X\\}|!file x|[-:?{}\\[\\],&*!|>'\"%@# \\n\\t0é~]|: |\n  ){0,40}") {
        let environment = environment();
        let folder = Path::new("/nowhere");
        let mut mistakes = Vec::new();
        let parsed = nodes::parse(&text, 0, &mut 0, &mut mistakes);
        let source = sources::Source { path: "x.yaml".into(), text: text.clone(), secrets: parsed.secrets };
        let mut sources = Sources { files: vec![source], hidden: Vec::new() };
        if let Some(mut root) = parsed.root {
            let (hidden, mistakes) = (&mut sources.hidden, &mut mistakes);
            expand::Expander { environment: &environment, text: &text, folder, hidden, mistakes, total: 0 }.expand(&mut root);
            if let Some(settings) = deserializer::read::<Settings>(&root, mistakes) {
                validate::resolve(&settings, "edge-01", folder, mistakes);
            }
        }
        diagnostic::render(&sources, &mistakes, false);
    }
}

#[test]
fn without_a_file_there_is_a_broker_for_this_machine_that_keeps_nothing() {
    let Configuration { resolved, .. } = built_in(&environment());
    assert_eq!(resolved.gateway, "edge-01");
    assert_eq!(resolved.listeners.iter().map(ToString::to_string).collect::<Vec<_>>(), ["mqtt://127.0.0.1:1883"]);
    assert_eq!(resolved.storage.disk, None);
    let (_folder, read) = read_files(&[("edgeway.yaml", "{}")]);
    assert!(read.unwrap().resolved.storage.disk.is_some(), "a file stands for a gateway that is kept");
}

#[test]
fn the_examples_of_the_reference_have_no_mistakes() {
    let references = [
        include_str!("../../../README.md"),
        include_str!("../../../docs/configuration.md"),
        include_str!("../../../docs/configuration/access.md"),
        include_str!("../../../docs/configuration/admin.md"),
        include_str!("../../../docs/configuration/http.md"),
        include_str!("../../../docs/configuration/listeners.md"),
        include_str!("../../../docs/configuration/modbus.md"),
        include_str!("../../../docs/configuration/serial.md"),
        include_str!("../../../docs/configuration/storage.md"),
    ];
    let environment = Environment { variable: &|_| Some("secret".into()), host_name: "edge-01".into() };
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    for reference in references {
        let examples: Vec<&str> =
            reference.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert!(!examples.is_empty());
        for example in examples {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("edgeway.yaml"), example).unwrap();
            for (name, content) in
                [("server.crt", cert.pem()), ("server.key", signing_key.serialize_pem()), ("clients.crt", cert.pem())]
            {
                std::fs::write(folder.path().join(name), content).unwrap();
            }
            if let Err(refused) = read(&folder.path().join("edgeway.yaml"), &environment) {
                panic!("{}", refused.render(false));
            }
        }
    }
}

#[test]
fn the_default_file_stands_for_itself_with_its_comments_removed() {
    let text = include_str!("../../../config/edgeway.yaml");
    assert!(read_files(&[("edgeway.yaml", text)]).1.is_ok());
    // Each commented section is one that could be used as it stands; `webhooks` and `http` want each other.
    let mut sections: Vec<String> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("# ") {
            Some(line) if line.split(':').next().is_some_and(|key| SECTIONS.contains(&key)) => {
                sections.push(line.into());
            }
            Some(line) if line.starts_with("  ") && !sections.is_empty() => {
                let section = sections.last_mut().unwrap();
                section.push('\n');
                section.push_str(line);
            }
            _ => {}
        }
    }
    assert_eq!(sections.len(), SECTIONS.len());
    let environment = Environment { variable: &|_| Some("secret".into()), host_name: "edge-01".into() };
    let alone = sections.iter().filter(|section| !section.starts_with("http")).cloned();
    for text in alone.chain([sections.join("\n")]) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("edgeway.yaml"), text).unwrap();
        if let Err(refused) = read(&folder.path().join("edgeway.yaml"), &environment) {
            panic!("{}", refused.render(false));
        }
    }
}

const SECTIONS: [&str; 10] =
    ["broker", "gateway", "storage", "admin", "log", "modbus", "serial", "webhooks", "http", "bridges"];
