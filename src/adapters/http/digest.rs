//! Digest access authentication (RFC 7616): the answer to a challenge, with SHA-256 or MD5. Pure but for its nonce.

use md5::{Digest, Md5};
use reqwest::Url;
use ring::rand::SecureRandom;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Algorithm {
    Md5,
    Sha256,
}

impl Algorithm {
    fn hash(self, text: &str) -> String {
        match self {
            Self::Md5 => hex(&Md5::digest(text)),
            Self::Sha256 => hex(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref()),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }
}

/// What a device asks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Challenge {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    /// The device takes part in `qop=auth`; old ones do not.
    auth: bool,
    algorithm: Algorithm,
}

/// The `Authorization` header that answers the strongest of `challenges`; `None` where none of them is a digest.
pub fn answer<'a>(
    challenges: impl Iterator<Item = &'a str>,
    method: &str,
    url: &Url,
    user: &str,
    password: &str,
) -> Option<String> {
    let challenge = challenges.filter_map(parse).max_by_key(|challenge| challenge.algorithm)?;
    let mut nonce = [0; 16];
    ring::rand::SystemRandom::new().fill(&mut nonce).ok()?;
    Some(respond(&challenge, method, url, user, password, &hex(&nonce)))
}

fn respond(challenge: &Challenge, method: &str, url: &Url, user: &str, password: &str, client_nonce: &str) -> String {
    let Challenge { realm, nonce, algorithm, .. } = challenge;
    let uri = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let secret = algorithm.hash(&format!("{user}:{realm}:{password}"));
    let request = algorithm.hash(&format!("{method}:{uri}"));
    let (response, quality) = if challenge.auth {
        let response = algorithm.hash(&format!("{secret}:{nonce}:00000001:{client_nonce}:auth:{request}"));
        (response, format!(r#", qop=auth, nc=00000001, cnonce="{client_nonce}""#))
    } else {
        (algorithm.hash(&format!("{secret}:{nonce}:{request}")), String::new())
    };
    let opaque = challenge.opaque.as_ref().map(|opaque| format!(r#", opaque="{}""#, quote(opaque)));
    format!(
        r#"Digest username="{}", realm="{}", nonce="{}", uri="{uri}", algorithm={}, response="{response}"{quality}{}"#,
        quote(user),
        quote(realm),
        quote(nonce),
        algorithm.name(),
        opaque.unwrap_or_default(),
    )
}

/// A challenge such as `Digest realm="shelly", nonce="1234", qop="auth", algorithm=SHA-256`.
fn parse(header: &str) -> Option<Challenge> {
    let parameters = header.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("digest ")).map(|_| &header[7..])?;
    let (mut realm, mut nonce, mut opaque, mut auth) = (None, None, None, false);
    let mut algorithm = Some(Algorithm::Md5);
    for (name, value) in split(parameters) {
        match name.to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value),
            "nonce" => nonce = Some(value),
            "opaque" => opaque = Some(value),
            "qop" => auth = value.split(',').any(|quality| quality.trim() == "auth"),
            "algorithm" => {
                algorithm = match value.to_ascii_uppercase().as_str() {
                    "MD5" => Some(Algorithm::Md5),
                    "SHA-256" => Some(Algorithm::Sha256),
                    _ => None,
                }
            }
            _ => {}
        }
    }
    Some(Challenge { realm: realm.unwrap_or_default(), nonce: nonce?, opaque, auth, algorithm: algorithm? })
}

/// `name=value` pairs between commas; values may be quoted, and then hold commas and escaped characters.
fn split(parameters: &str) -> Vec<(&str, String)> {
    let mut pairs = Vec::new();
    let mut rest = parameters;
    while let Some((name, behind)) = rest.split_once('=') {
        let behind = behind.trim_start();
        let mut value = String::new();
        let end = if let Some(quoted) = behind.strip_prefix('"') {
            let mut characters = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((index, character)) = characters.next() {
                match character {
                    '"' => {
                        end = index + 1;
                        break;
                    }
                    '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                    _ => value.push(character),
                }
            }
            1 + end
        } else {
            let end = behind.find(',').unwrap_or(behind.len());
            value.push_str(behind[..end].trim());
            end
        };
        pairs.push((name.trim_matches([',', ' ', '\t']), value));
        rest = behind.get(end..).unwrap_or_default().trim_start_matches([',', ' ', '\t']);
    }
    pairs
}

fn quote(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of RFC 7616, section 3.9.1.
    #[test]
    fn the_example_of_the_specification_is_answered_as_it_says() {
        let url = Url::parse("http://www.example.org/dir/index.html").unwrap();
        let client_nonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let header = format!(
                r#"Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#
            );
            let challenge = parse(&header).unwrap();
            let answer = respond(&challenge, "GET", &url, "Mufasa", "Circle of Life", client_nonce);
            assert!(answer.contains(&format!(r#"response="{response}""#)), "{answer}");
            assert!(answer.contains(r#"opaque="FQhe/"#) && answer.contains("qop=auth, nc=00000001"), "{answer}");
        }
    }

    #[test]
    fn the_strongest_challenge_is_answered_and_others_are_not() {
        let url = Url::parse("http://plug/rpc?id=0").unwrap();
        let challenges = ["Basic realm=\"x\"", "Digest nonce=\"a\"", "Digest nonce=\"b\", algorithm=SHA-256"];
        let header = answer(challenges.into_iter(), "GET", &url, "admin", "p").unwrap();
        assert!(header.contains("nonce=\"b\"") && header.contains("uri=\"/rpc?id=0\""), "{header}");
        assert_eq!(answer(["Basic realm=\"x\""].into_iter(), "GET", &url, "admin", "p"), None);
        assert_eq!(parse("Digest nonce=\"a\", algorithm=MD5-sess"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_challenges_never_panic(header in r#"(Digest )?[a-z="\\, °]{0,40}"#) {
            let _ = parse(&header);
        }
    }
}
