//! Users and their passwords: few hashes run at a time, on threads of their own, and what is known is not hashed again.
//!
//! ```text
//! check -> last right one? refused lately? -> being hashed for another connection? -> wait for a turn -> hash
//! ```

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::{Semaphore, watch};

use super::hash::{NoRandomness, PasswordHash};

/// Hashes that run at a time, at the most; one fewer than there are cores where that is less. Each may take 19 MiB.
const MAX_RUNNING: usize = 2;
/// Hashes that run or wait for their turn. Beyond that a client is told to come again.
const MAX_PENDING: usize = 32;
/// Of these, those that one address may have: somebody who guesses leaves room for others.
const MAX_PENDING_PER_ADDRESS: usize = 8;
/// Wrong passwords that are remembered; the oldest is forgotten.
const MAX_WRONG: usize = 256;

/// Why a user is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Nobody is called so.
    UnknownUser,
    /// The password is another one.
    WrongPassword,
    /// Too many passwords wait to be checked.
    Busy,
}

/// The users of a broker that have a password.
pub struct Passwords {
    users: HashMap<Arc<str>, PasswordHash>,
    /// In a fixed order, for [`Passwords::decoy`].
    names: Vec<Arc<str>>,
    /// Of this process alone: what is remembered of passwords is worth nothing to anybody else.
    key: hmac::Key,
    running: Arc<Semaphore>,
    known: Mutex<Known>,
}

/// Stands for a user name and a password.
type Tag = [u8; 32];

/// What has been found out, and what is being found out.
#[derive(Default)]
struct Known {
    /// The last right one of each user.
    right: HashMap<Arc<str>, Tag>,
    wrong: HashSet<Tag>,
    /// Those in `wrong`, oldest first.
    wrong_in_order: VecDeque<Tag>,
    /// Checks that run or wait for their turn; at most [`MAX_PENDING`].
    pending: HashMap<Tag, watch::Receiver<Option<bool>>>,
    /// How many of them each address has.
    by_address: HashMap<Option<IpAddr>, usize>,
}

enum Begin {
    Done(bool),
    Busy,
    Join(watch::Receiver<Option<bool>>),
    Lead(Check, watch::Receiver<Option<bool>>),
}

/// One that runs or waits for its turn. Dropped without an answer, it lets those who wait for it try themselves.
struct Check {
    of: Arc<Passwords>,
    tag: Tag,
    address: Option<IpAddr>,
    answer: watch::Sender<Option<bool>>,
    /// What was found out, and the user that it is of.
    found: Option<(Option<Arc<str>>, bool)>,
}

impl Passwords {
    /// The passwords of `users`.
    ///
    /// # Errors
    /// Where the system gives no random numbers.
    pub fn new(users: impl IntoIterator<Item = (Arc<str>, PasswordHash)>) -> Result<Arc<Self>, NoRandomness> {
        let users: HashMap<Arc<str>, PasswordHash> = users.into_iter().collect();
        let mut names: Vec<_> = users.keys().map(Arc::clone).collect();
        names.sort();
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Arc::new(Self {
            users,
            names,
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| NoRandomness)?,
            running: Arc::new(Semaphore::new(cores.saturating_sub(1).clamp(1, MAX_RUNNING))),
            known: Mutex::default(),
        }))
    }

    /// Whether no user has a password.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Checks a password that came from `address` (`None`: a Unix socket). It may be dropped while it waits.
    ///
    /// A name that nobody has takes as long as one that somebody has.
    ///
    /// # Errors
    /// Why the user is not let in.
    pub async fn check(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        user: &str,
        password: &[u8],
    ) -> Result<Arc<str>, Refusal> {
        let known_user = self.users.get_key_value(user);
        let wrong = if known_user.is_some() { Refusal::WrongPassword } else { Refusal::UnknownUser };
        let Some(hash) = known_user.map(|(_, hash)| hash).or_else(|| self.decoy(user)) else {
            return Err(wrong);
        };
        let name = known_user.map(|(name, _)| name);
        let is_right = if hash.is_slow() {
            self.check_slowly(address, name, self.tag(user, password), hash, password).await?
        } else {
            hash.verify(password)
        };
        name.filter(|_| is_right).map(Arc::clone).ok_or(wrong)
    }

    /// Whose hash is checked in place of that of somebody who does not exist: always the same for one name.
    fn decoy(&self, user: &str) -> Option<&PasswordHash> {
        let tag = self.tag(user, b"");
        let number = u64::from_le_bytes(tag[..8].try_into().expect("a tag is 32 bytes"));
        let name = self.names.get(usize::try_from(number % self.names.len().max(1) as u64).unwrap_or(0))?;
        self.users.get(name)
    }

    async fn check_slowly(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        name: Option<&Arc<str>>,
        tag: Tag,
        hash: &PasswordHash,
        password: &[u8],
    ) -> Result<bool, Refusal> {
        loop {
            let mut answer = match self.begin(address, name, tag) {
                Begin::Done(is_right) => return Ok(is_right),
                Begin::Busy => return Err(Refusal::Busy),
                Begin::Join(answer) => answer,
                Begin::Lead(check, answer) => {
                    let turn = Arc::clone(&self.running).acquire_owned().await.map_err(|_| Refusal::Busy)?;
                    let (hash, password, name) = (hash.clone(), password.to_vec(), name.map(Arc::clone));
                    // It runs to its end whether or not the client still waits: the turn is over only then.
                    tokio::task::spawn_blocking(move || {
                        let is_right = hash.verify(&password) && name.is_some();
                        drop(turn);
                        check.finish(name, is_right);
                    });
                    answer
                }
            };
            // Without an answer the one who led it has gone; then this one tries itself.
            if let Ok(is_right) = answer.wait_for(Option::is_some).await {
                return Ok(*is_right == Some(true));
            }
        }
    }

    fn begin(self: &Arc<Self>, address: Option<IpAddr>, name: Option<&Arc<str>>, tag: Tag) -> Begin {
        let mut known = self.lock();
        if name.is_some_and(|name| known.right.get(name) == Some(&tag)) {
            return Begin::Done(true);
        }
        if known.wrong.contains(&tag) {
            return Begin::Done(false);
        }
        if let Some(pending) = known.pending.get(&tag) {
            return Begin::Join(pending.clone());
        }
        let of_address = known.by_address.get(&address).copied().unwrap_or(0);
        if known.pending.len() >= MAX_PENDING || of_address >= MAX_PENDING_PER_ADDRESS {
            return Begin::Busy;
        }
        let (sender, receiver) = watch::channel(None);
        known.pending.insert(tag, receiver.clone());
        known.by_address.insert(address, of_address + 1);
        drop(known);
        Begin::Lead(Check { of: Arc::clone(self), tag, address, answer: sender, found: None }, receiver)
    }

    fn tag(&self, user: &str, password: &[u8]) -> Tag {
        let mut context = hmac::Context::with_key(&self.key);
        // The length keeps `ab` with `c` apart from `a` with `bc`.
        context.update(&(user.len() as u64).to_le_bytes());
        context.update(user.as_bytes());
        context.update(password);
        let tag = context.sign();
        tag.as_ref().try_into().expect("a SHA-256 is 32 bytes")
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passwords").field("users", &self.names).finish_non_exhaustive()
    }
}

impl Check {
    /// Remembers the answer and gives it to all who wait.
    fn finish(mut self, name: Option<Arc<str>>, is_right: bool) {
        self.found = Some((name, is_right));
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        let found = self.found.take();
        let is_right = found.as_ref().map(|(_, is_right)| *is_right);
        let mut known = self.of.lock();
        match found {
            Some((Some(name), true)) => {
                known.right.insert(name, self.tag);
            }
            Some(_) => known.remember_wrong(self.tag),
            None => {}
        }
        known.pending.remove(&self.tag);
        if let Some(count) = known.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                known.by_address.remove(&self.address);
            }
        }
        drop(known);
        // Last, so that whoever hears it finds its place free.
        self.answer.send_replace(is_right);
    }
}

impl Known {
    fn remember_wrong(&mut self, tag: Tag) {
        if self.wrong.insert(tag) {
            self.wrong_in_order.push_back(tag);
        }
        if self.wrong_in_order.len() > MAX_WRONG
            && let Some(oldest) = self.wrong_in_order.pop_front()
        {
            self.wrong.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A hash that takes a moment even here.
    const SLOW: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    fn passwords() -> Arc<Passwords> {
        let users = [("ann", SLOW), ("bob", "hunter2")];
        Passwords::new(users.map(|(name, hash)| (name.into(), PasswordHash::parse(hash).unwrap()))).unwrap()
    }

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[tokio::test]
    async fn right_ones_are_let_in_and_others_refused_for_a_reason() {
        let passwords = passwords();
        for _ in 0..2 {
            assert_eq!(passwords.check(None, "ann", b"password").await.unwrap().as_ref(), "ann");
            assert_eq!(passwords.check(None, "bob", b"hunter2").await.unwrap().as_ref(), "bob");
            assert_eq!(passwords.check(None, "ann", b"hunter2").await, Err(Refusal::WrongPassword));
            assert_eq!(passwords.check(None, "bob", b"password").await, Err(Refusal::WrongPassword));
            for nobody in ["eve", "", "an", "Ann", "mallory"] {
                for password in ["password", "hunter2", ""] {
                    assert_eq!(passwords.check(None, nobody, password.as_bytes()).await, Err(Refusal::UnknownUser));
                }
            }
        }
        let known = passwords.lock();
        assert!(known.pending.is_empty() && known.by_address.is_empty());
    }

    #[tokio::test]
    async fn what_is_known_is_not_hashed_again() {
        let passwords = passwords();
        passwords.check(None, "ann", b"password").await.unwrap();
        assert_eq!(passwords.check(None, "ann", b"wrong").await, Err(Refusal::WrongPassword));
        // With no turn to be had, only what is known is answered.
        let _all = passwords.running.acquire_many(passwords.running.available_permits() as u32).await.unwrap();
        for _ in 0..1000 {
            passwords.check(None, "ann", b"password").await.unwrap();
            assert_eq!(passwords.check(None, "ann", b"wrong").await, Err(Refusal::WrongPassword));
        }
        let new = tokio::time::timeout(Duration::from_millis(20), passwords.check(None, "ann", b"another")).await;
        assert!(new.is_err());
    }

    #[tokio::test]
    async fn a_thousand_clients_of_one_user_cost_one_hash() {
        let passwords = passwords();
        let turns = passwords.running.available_permits() as u32;
        let all = Arc::clone(&passwords.running).acquire_many_owned(turns).await.unwrap();
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..1000 {
            let passwords = Arc::clone(&passwords);
            clients.spawn(async move { passwords.check(address(1), "ann", b"password").await.is_ok() });
        }
        tokio::task::yield_now().await;
        assert_eq!(passwords.lock().pending.len(), 1);
        drop(all);
        assert!(clients.join_all().await.into_iter().all(|is_let_in| is_let_in));
    }

    #[tokio::test]
    async fn the_one_who_led_may_go_and_the_others_are_answered() {
        let passwords = passwords();
        let turns = passwords.running.available_permits() as u32;
        let all = Arc::clone(&passwords.running).acquire_many_owned(turns).await.unwrap();
        let check = || {
            let passwords = Arc::clone(&passwords);
            tokio::spawn(async move { passwords.check(address(1), "ann", b"password").await.is_ok() })
        };
        let leader = check();
        tokio::task::yield_now().await;
        let follower = check();
        tokio::task::yield_now().await;
        leader.abort();
        assert!(leader.await.unwrap_err().is_cancelled());
        drop(all);
        assert!(follower.await.unwrap());
    }

    #[tokio::test]
    async fn one_who_guesses_leaves_room_for_others() {
        let passwords = passwords();
        let turns = passwords.running.available_permits() as u32;
        let all = Arc::clone(&passwords.running).acquire_many_owned(turns).await.unwrap();
        let mut guesses = tokio::task::JoinSet::new();
        for guess in 0..100 {
            let passwords = Arc::clone(&passwords);
            let text = format!("guess {guess}");
            guesses.spawn(async move { passwords.check(address(6), "ann", text.as_bytes()).await });
        }
        tokio::task::yield_now().await;
        assert_eq!(passwords.lock().pending.len(), MAX_PENDING_PER_ADDRESS);
        let another = Arc::clone(&passwords);
        let another = tokio::spawn(async move { another.check(address(1), "ann", b"password").await.is_ok() });
        tokio::task::yield_now().await;
        drop(all);
        assert!(another.await.unwrap());
        let answers = guesses.join_all().await;
        let busy = answers.iter().filter(|answer| **answer == Err(Refusal::Busy)).count();
        assert_eq!(busy, 100 - MAX_PENDING_PER_ADDRESS);
        assert!(answers.iter().all(Result::is_err));
        // Their places are free again.
        passwords.check(address(6), "ann", b"another guess").await.unwrap_err();
        assert!(passwords.lock().by_address.is_empty());
    }

    #[test]
    fn only_so_many_wrong_passwords_are_remembered() {
        let mut known = Known::default();
        for number in 0..2 * MAX_WRONG {
            let mut tag = [0; 32];
            tag[..8].copy_from_slice(&(number as u64 + 1).to_le_bytes());
            known.remember_wrong(tag);
        }
        assert_eq!((known.wrong.len(), known.wrong_in_order.len()), (MAX_WRONG, MAX_WRONG));
    }
}
