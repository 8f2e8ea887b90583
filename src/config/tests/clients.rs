//! What a user reads when listeners, users or certificates are wrong.

use super::*;

#[test]
fn mistakes_of_users_are_said_where_they_stand() {
    let text = "\
broker:
  listen: mqtt://0.0.0.0
  anonymous: { from: [192.168.1.7/24, 10.0.0.0/33], reed: [\"#\"], write: [\"{user}/x\", \"a/#/b\"] }
  users:
    ann: { password: \"$argon2id$v=19$m=65536$hunter2$hunter3\", read: [\"#\"] }
    bob: { password: \"$2b$12$hunter4\", write: [\"{clinet}/#\"] }
    carl: { read: [\"$share/g/x\"] }
    dora: { password: \"\", write: [\"$SYS/x\"] }
    eve: { password: hunter5 }
    a/b: { password: hunter6, read: [\"{user}/#\"] }
";
    insta::assert_snapshot!(mistakes(text), @r##"
    error: `192.168.1.7/24` is no range of addresses
     --> /edgeway.yaml:3:23
      |
    3 |   anonymous: { from: [192.168.1.7/24, 10.0.0.0/33], reed: ["#"], write: ["{user}/x", "a/#/b"] }
      |                       ^^^^^^^^^^^^^^
      |
      = help: a range begins with its first address: 192.168.1.0/24

    error: `10.0.0.0/33` is no range of addresses
     --> /edgeway.yaml:3:39
      |
    3 |   anonymous: { from: [192.168.1.7/24, 10.0.0.0/33], reed: ["#"], write: ["{user}/x", "a/#/b"] }
      |                                       ^^^^^^^^^^^
      |
      = help: a range of addresses is written 192.168.1.0/24, fd00::/8, 192.168.1.7 or loopback

    error: unknown key `reed`
     --> /edgeway.yaml:3:53
      |
    3 |   anonymous: { from: [192.168.1.7/24, 10.0.0.0/33], reed: ["#"], write: ["{user}/x", "a/#/b"] }
      |                                                     ^^^^
      |
      = help: did you mean `read`?

    error: `{user}` has no meaning here: the anonymous have no name
     --> /edgeway.yaml:3:74
      |
    3 |   anonymous: { from: [192.168.1.7/24, 10.0.0.0/33], reed: ["#"], write: ["{user}/x", "a/#/b"] }
      |                                                                          ^^^^^^^^^^

    error: `a/#/b` is no topic filter
     --> /edgeway.yaml:3:86
      |
    3 |   anonymous: { from: [192.168.1.7/24, 10.0.0.0/33], reed: ["#"], write: ["{user}/x", "a/#/b"] }
      |                                                                                      ^^^^^^^
      |
      = help: `#` stands alone in the last level of a filter

    error: a $argon2id$ hash that is not whole
     --> /edgeway.yaml:5:22
      |
    5 |     ann: { password: ***, read: ["#"] }
      |                      ^^^
      |
      = help: `edgeway passwd` makes one that is right

    error: a hash of a kind that is not known here: there are $argon2id$, $7$ and $6$
     --> /edgeway.yaml:6:22
      |
    6 |     bob: { password: ***, write: ["{clinet}/#"] }
      |                      ^^^
      |
      = help: `edgeway passwd` makes one that is right

    error: `{clinet}` stands for nothing; there are {gateway}, {user}, {client}
     --> /edgeway.yaml:6:48
      |
    6 |     bob: { password: ***, write: ["{clinet}/#"] }
      |                                   ^^^^^^^^^^^^

    error: `$share/g/x` is no topic filter
     --> /edgeway.yaml:7:20
      |
    7 |     carl: { read: ["$share/g/x"] }
      |                    ^^^^^^^^^^^^
      |
      = help: write what stands behind `$share/NAME/`

    error: an empty password lets everybody in
     --> /edgeway.yaml:8:23
      |
    8 |     dora: { password: ***, write: ["$SYS/x"] }
      |                       ^^^
      |
      = help: leave it out where a certificate is enough

    error: nobody writes what begins with `$SYS/`
     --> /edgeway.yaml:8:35
      |
    8 |     dora: { password: ***, write: ["$SYS/x"] }
      |                                    ^^^^^^^^
      |
      = help: the broker does

    error: `{user}` would be `a/b` here, which is more than one level
      --> /edgeway.yaml:10:38
       |
    10 |     a/b: { password: ***, read: ["{user}/#"] }
       |                                  ^^^^^^^^^^
       |
       = help: write the filter out

    12 mistakes in the configuration
    "##);
}

#[test]
fn a_listener_that_nobody_may_use_is_a_mistake() {
    insta::assert_snapshot!(mistakes("broker: { listen: \"mqtt://0.0.0.0\" }\n"), @r##"
    error: beyond this machine a listener wants users, `client_ca` or `anonymous`
     --> /edgeway.yaml:1:19
      |
    1 | broker: { listen: "mqtt://0.0.0.0" }
      |                   ^^^^^^^^^^^^^^^^
      |
      = help: for example anonymous: { from: 192.168.1.0/24, read: ["#"] }, or `anonymous: true` if everybody in the network may connect

    1 mistake in the configuration
    "##);
    insta::assert_snapshot!(mistakes("broker: { anonymous: false }\n"), @r##"
    error: nobody could connect: there are no users
     --> /edgeway.yaml:1:22
      |
    1 | broker: { anonymous: false }
      |                      ^^^^^
      |
      = help: for example users: { ann: { password: "...", read: ["#"] } }; `edgeway passwd` hashes it

    1 mistake in the configuration
    "##);
    insta::assert_snapshot!(mistakes("broker: { anonymous: loopbak, users: { ann: { read: [\"#\"] } } }\n"), @r##"
    error: `loopbak` is not one of the words for this
     --> /edgeway.yaml:1:22
      |
    1 | broker: { anonymous: loopbak, users: { ann: { read: ["#"] } } }
      |                      ^^^^^^^
      |
      = help: did you mean `loopback`?

    1 mistake in the configuration
    "##);
    insta::assert_snapshot!(mistakes("broker: { anonymous: { from: loopback }, users: { ann: { read: [\"#\"] } } }\n"), @r##"
    error: the anonymous may read and write nothing
     --> /edgeway.yaml:1:22
      |
    1 | broker: { anonymous: { from: loopback }, users: { ann: { read: ["#"] } } }
      |                      ^^^^^^^^^^^^^^^^^^
      |
      = help: add for example read: ["#"], or write `anonymous: false`

    error: `ann` has no password
     --> /edgeway.yaml:1:51
      |
    1 | broker: { anonymous: { from: loopback }, users: { ann: { read: ["#"] } } }
      |                                                   ^^^
      |
      = help: `edgeway passwd` makes the line: password: "$argon2id$..."

    2 mistakes in the configuration
    "##);
}

#[test]
fn wrong_lines_of_a_password_file_are_named_and_never_shown() {
    let passwords = "\
ann:$7$101$hunter2
bob:$6$c2FsdA==$/NjE9gcIGVcDb5Gz2rNFLzDh+rzTbz1mzKRGfCdgOiXAyUcmTvZBYA5dCWZf+m/uqMbz7jnvZRzcDNaQ9PoLeQ==
carl:hunter3
hunter4
";
    let read = |broker: &str| {
        let files = [("a.yaml", broker), ("b.yaml", "gateway: { name: edge }\n"), ("passwd", passwords)];
        read_files(&files).1.unwrap_err()
    };
    insta::assert_snapshot!(read("broker: { password_file: passwd }\n"), @r##"
    error: passwd:1: a $7$ hash that is not whole
     --> /a.yaml:1:26
      |
    1 | broker: { password_file: passwd }
      |                          ^^^^^^

    error: passwd:3: a password that is not hashed: `mosquitto_passwd -U FILE` hashes it
     --> /a.yaml:1:26
      |
    1 | broker: { password_file: passwd }
      |                          ^^^^^^

    error: passwd:4: a line is `name:hash`
     --> /a.yaml:1:26
      |
    1 | broker: { password_file: passwd }
      |                          ^^^^^^

    error: of the users in it `bob` may read and write nothing
     --> /a.yaml:1:26
      |
    1 | broker: { password_file: passwd }
      |                          ^^^^^^
      |
      = help: give them all the same, password_file: { path: passwd, read: ["#"], write: ["#"] }, or each an entry in `users`

    4 mistakes in the configuration
    "##);
    let shown =
        read("broker: { password_file: { path: nowhere, read: [\"#\"] }, users: { ann: { read: [\"#\"] } } }\n");
    insta::assert_snapshot!(shown, @r##"
    error: cannot read `nowhere`: No such file or directory (os error 2)
     --> /a.yaml:1:34
      |
    1 | broker: { password_file: { path: nowhere, read: ["#"] }, users: { ann: { read: ["#"] } } }
      |                                  ^^^^^^^

    1 mistake in the configuration
    "##);
    let shown = read(
        "broker: { password_file: { path: passwd, read: [\"#\"] }, users: { bob: { password: x, read: [\"#\"] } } }\n",
    );
    assert!(shown.contains("`bob` has a password here and one in the password file"), "{shown}");
    assert!(!shown.contains("hunter"), "{shown}");
}

#[test]
fn tls_files_stand_beside_the_configuration() {
    let text = "bridges: { a: { url: mqtts://a, tls: { ca: ca.crt } } }\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("edgeway.yaml"), text).unwrap();
    let authority = rcgen::generate_simple_self_signed(vec!["a".into()]).unwrap();
    std::fs::write(folder.path().join("ca.crt"), authority.cert.pem()).unwrap();
    let configuration = read(&folder.path().join("edgeway.yaml"), &environment()).unwrap();
    let tls = configuration.resolved.bridges[0].tls.clone();
    assert_eq!(tls.ca.unwrap(), folder.path().join("ca.crt"));
}
