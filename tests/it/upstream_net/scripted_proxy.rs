//! A small proxy that speaks HTTP CONNECT and SOCKS5, and knows names that nobody else does.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What it knows: `known.test` is this machine.
pub const KNOWN: &str = "known.test";
/// Where nobody may go.
pub const FORBIDDEN: &str = "forbidden.test";

/// A proxy that runs until the test ends.
pub struct ScriptedProxy {
    pub port: u16,
    /// The targets that it was asked for, as it was asked.
    pub asked: Arc<Mutex<Vec<String>>>,
}

/// Whom it lets through: `user:password`, or anybody.
pub type Password = Option<&'static str>;

impl ScriptedProxy {
    /// One that tells HTTP and SOCKS by the first byte.
    pub fn start(password: Password) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let port = listener.local_addr().expect("a listener has an address").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let known = Arc::clone(&asked);
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let asked = Arc::clone(&known);
                // A connection that breaks is the test's affair.
                std::thread::spawn(move || {
                    let mut first = [0];
                    let is_socks = client.peek(&mut first).is_ok_and(|count| count == 1) && first[0] == 5;
                    if is_socks { socks(client, password, &asked) } else { http(&client, password, &asked) }
                });
            }
        });
        Self { port, asked }
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no thread panics with it").clone()
    }
}

/// The way to a target: `Err` has the status of HTTP and the reply of SOCKS.
fn reach(target: &str, asked: &Mutex<Vec<String>>) -> Result<TcpStream, (&'static str, u8)> {
    asked.lock().expect("no thread panics with it").push(target.to_owned());
    let (host, port) = target.rsplit_once(':').expect("a target has a port");
    match host {
        KNOWN => TcpStream::connect(("127.0.0.1", port.parse().expect("a port"))).map_err(|_| ("502 Bad Gateway", 5)),
        FORBIDDEN => Err(("403 Forbidden", 2)),
        _ => Err(("504 Gateway Timeout", 4)),
    }
}

fn http(mut client: &TcpStream, password: Password, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let target = head[0].strip_prefix("CONNECT ").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
    let target = target.expect("the request is CONNECT");
    assert!(head.contains(&format!("Host: {target}")), "{head:?}");
    let authorization = password.map(|password| format!("Proxy-Authorization: Basic {}", STANDARD.encode(password)));
    let is_let_in = authorization.is_none_or(|wanted| head.contains(&wanted));
    let reached = if is_let_in { reach(target, asked) } else { Err(("407 Proxy Authentication Required", 0)) };
    match reached {
        Ok(server) => {
            client.write_all(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")?;
            pass(client, &server)
        }
        Err((status, _)) => client.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()),
    }
}

fn socks(mut client: TcpStream, password: Password, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let [_, count] = read(&mut client)?;
    let mut methods = vec![0; usize::from(count)];
    client.read_exact(&mut methods)?;
    let wanted = if password.is_some() { 2 } else { 0 };
    if !methods.contains(&wanted) {
        return client.write_all(&[5, 0xff]);
    }
    client.write_all(&[5, wanted])?;
    if let Some(password) = password {
        let [1] = read(&mut client)? else { return Ok(()) };
        let credentials = format!("{}:{}", read_text(&mut client)?, read_text(&mut client)?);
        let is_right = credentials == password;
        client.write_all(&[1, u8::from(!is_right)])?;
        if !is_right {
            return Ok(());
        }
    }
    let [5, 1, 0, 3] = read(&mut client)? else { panic!("the name is left to the proxy") };
    let host = read_text(&mut client)?;
    let port = u16::from_be_bytes(read(&mut client)?);
    match reach(&format!("{host}:{port}"), asked) {
        Ok(server) => {
            client.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 1])?;
            pass(&client, &server)
        }
        Err((_, reply)) => client.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]),
    }
}

fn read<const COUNT: usize>(stream: &mut TcpStream) -> std::io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_text(stream: &mut TcpStream) -> std::io::Result<String> {
    let [length] = read(stream)?;
    let mut text = vec![0; usize::from(length)];
    stream.read_exact(&mut text)?;
    Ok(String::from_utf8(text).expect("names are UTF-8"))
}

fn pass(client: &TcpStream, server: &TcpStream) -> std::io::Result<()> {
    let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        to.shutdown(std::net::Shutdown::Both)
    });
    let (mut client, mut server) = (client, server);
    std::io::copy(&mut client, &mut server)?;
    server.shutdown(std::net::Shutdown::Both)
}
