//! One connection to whichever of a name's addresses answers first [RFC 8305]: a network whose IPv6 leads nowhere must
//! not keep us from one whose IPv4 does.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How long an address is waited for before the next is tried beside it [RFC 8305 5].
const HEAD_START: Duration = Duration::from_millis(250);
/// The most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Connects to one of `addresses`, which are tried in their order, the two families by turns.
///
/// # Errors
/// What the last of them said, where all fail.
pub(super) async fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = by_turns(addresses).into_iter().take(MAX_ADDRESSES).peekable();
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        match waiting.next() {
            Some(address) => drop(attempts.spawn(TcpStream::connect(address))),
            None if attempts.is_empty() => return Err(failure),
            None => {}
        }
        let has_more = waiting.peek().is_some();
        tokio::select! {
            joined = attempts.join_next() => match joined {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => failure = error,
                Some(Err(error)) => failure = io::Error::other(error),
                None => {}
            },
            () = tokio::time::sleep(HEAD_START), if has_more => {}
        }
    }
}

/// The first of each family, then the second of each, and so on; the family that the system prefers begins.
fn by_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[test]
    fn the_families_take_turns() {
        let addresses = |text: &[&str]| -> Vec<SocketAddr> { text.iter().map(|text| text.parse().unwrap()).collect() };
        assert_eq!(
            by_turns(addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1"])),
            addresses(&["[::1]:1", "1.0.0.1:1", "[::2]:1", "[::3]:1"])
        );
        assert_eq!(by_turns(Vec::new()), []);
    }

    #[tokio::test]
    async fn an_address_that_leads_nowhere_keeps_nobody_waiting() {
        // A listener whose backlog is full drops what asks for more, as a black hole does.
        let hole = TcpSocket::new_v4().unwrap();
        hole.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let hole = hole.listen(0).unwrap();
        let nowhere = hole.local_addr().unwrap();
        let mut fillers = Vec::new();
        while let Ok(Ok(filler)) = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(nowhere)).await {
            fillers.push(filler);
            assert!(fillers.len() < 16, "the backlog of 0 takes no end of connections");
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let well = listener.local_addr().unwrap();
        let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let stream = connect(vec![nowhere, refused, well]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), well);
    }

    #[tokio::test]
    async fn where_nobody_answers_the_last_word_is_told() {
        let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = connect(vec![refused, refused]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(connect(Vec::new()).await.unwrap_err().to_string().contains("no address"));
    }
}
