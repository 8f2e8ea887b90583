//! The section `storage`: where the journal is, how often it commits, and how much may wait.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time;

use serde::Deserialize;

use crate::settings::{Duration, Located, Mistake, Size};

/// Where the journal is unless `path` says otherwise.
pub const DEFAULT_PATH: &str = "/var/lib/edgeway";

const DEFAULT_COMMIT: Duration = Duration::from_millis(100);
const DEFAULT_COMMIT_MIN: Duration = Duration::from_millis(5);
const DEFAULT_COMMIT_READINGS: Duration = Duration::from_secs(2);
const COMMIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(10);
const COMMIT_MIN: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);
const COMMIT_READINGS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

const MB: u64 = 1024 * 1024;
const DEFAULT_LIMIT: u64 = 512 * MB;
/// Of each bridge.
const DEFAULT_LIMIT_IN_MEMORY: u64 = 64 * MB;
const LIMIT: RangeInclusive<u64> = MB..=1024 * 1024 * MB;

/// The section `storage`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The folder of the journal, made where there is none; relative to that of the configuration. Default
    /// `/var/lib/edgeway`.
    pub path: Option<Located<String>>,
    /// `true` keeps nothing on disk. Default `false`.
    pub in_memory: Located<bool>,
    /// Spacing of disk commits while nobody is held up, 1ms to 10s; acknowledgements wait for theirs. Default `100ms`.
    pub commit: Option<Located<Duration>>,
    /// Spacing of disk commits while somebody can do nothing before the next, 1ms to 1s, at most `commit`. Default
    /// `5ms`.
    pub commit_min: Option<Located<Duration>>,
    /// How long readings of devices may wait for their commit, 100ms to 1h; what every bridge has delivered before is
    /// never written. Default `2s`.
    pub commit_readings: Option<Located<Duration>>,
    /// The most that waits in all queues on disk together, 1MB to 1024GB; in memory, for each bridge. Default `512MB`,
    /// or `64MB` in memory.
    pub limit: Option<Located<Size>>,
    /// What happens then in the queues of bridges: `drop_oldest`, `drop_newest` or `refuse`. Default `drop_oldest`.
    pub when_full: WhenFull,
}

/// What happens to a message for which a queue has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// It is taken, and the oldest that wait are dropped for it. What is in flight is never dropped.
    #[default]
    DropOldest,
    /// It is dropped.
    DropNewest,
    /// It is refused before anybody gets it: a publisher of MQTT 5.0 hears 0x97, one of 3.1.1 is not read until there
    /// is room. What nobody was promised (QoS 0, the gateway's own readings, what another bridge brings) is dropped.
    ///
    /// Only queues of bridges refuse; a client's own queue never holds up others, and drops the oldest.
    Refuse,
}

impl fmt::Display for WhenFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DropOldest => "drop_oldest",
            Self::DropNewest => "drop_newest",
            Self::Refuse => "refuse",
        })
    }
}

/// What is kept, and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The journal on disk; `None` keeps nothing.
    pub disk: Option<Disk>,
    /// Bytes that wait in all queues on disk together; in memory, for each bridge.
    pub limit: u64,
    /// What happens when they do.
    pub when_full: WhenFull,
}

/// A journal on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its folder.
    pub path: PathBuf,
    /// Spacing of commits while nobody is held up.
    pub commit: time::Duration,
    /// Spacing of commits while somebody is.
    pub commit_min: time::Duration,
    /// How long readings may wait.
    pub commit_readings: time::Duration,
}

impl Default for Plan {
    /// Nothing is kept: what runs without a configuration.
    fn default() -> Self {
        Self { disk: None, limit: DEFAULT_LIMIT_IN_MEMORY, when_full: WhenFull::default() }
    }
}

impl Settings {
    /// What follows from the section; relative paths are those of `folder`. Nothing is read or made.
    ///
    /// # Errors
    /// All that is wrong in it.
    pub fn resolve(&self, folder: &Path) -> Result<Plan, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        if let Some(limit) = self.limit.filter(|limit| !LIMIT.contains(&limit.value.0)) {
            mistakes.push(limit.mistake("the most that waits is 1MB to 1024GB"));
        }
        let disk = match self.in_memory.value {
            true => {
                mistakes.extend(self.without_a_disk());
                None
            }
            false => Some(self.disk(folder, &mut mistakes)),
        };
        let limit = match (self.limit, &disk) {
            (Some(limit), _) => limit.value.0,
            (None, Some(_)) => DEFAULT_LIMIT,
            (None, None) => DEFAULT_LIMIT_IN_MEMORY,
        };
        if mistakes.is_empty() { Ok(Plan { disk, limit, when_full: self.when_full }) } else { Err(mistakes) }
    }

    fn disk(&self, folder: &Path, mistakes: &mut Vec<Mistake>) -> Disk {
        let commit = in_range("commit", self.commit, COMMIT, DEFAULT_COMMIT, mistakes);
        let least = DEFAULT_COMMIT_MIN.min(commit);
        let commit_min = in_range("commit_min", self.commit_min, COMMIT_MIN, least, mistakes);
        let commit_readings =
            in_range("commit_readings", self.commit_readings, COMMIT_READINGS, DEFAULT_COMMIT_READINGS, mistakes);
        if let Some(set) = self.commit_min.filter(|set| mistakes.is_empty() && set.value > commit) {
            let mistake = set.mistake(format!("`commit_min` is at most `commit`, which is {commit}"));
            mistakes.push(match self.commit {
                Some(commit) => mistake.related(commit.place, "`commit`"),
                None => mistake,
            });
        }
        let path = self.path.as_ref().map_or(DEFAULT_PATH, |path| path.value.as_str());
        if let Some(path) = self.path.as_ref().filter(|path| path.is_empty()) {
            mistakes.push(path.mistake("the journal wants a folder").help(format!("for example {DEFAULT_PATH}")));
        }
        let [commit, commit_min, commit_readings] = [commit.0, commit_min.0, commit_readings.0];
        Disk { path: folder.join(path), commit, commit_min, commit_readings }
    }

    /// Keys that want a disk, beside `in_memory: true`.
    fn without_a_disk(&self) -> Vec<Mistake> {
        let keys = [
            ("path", self.path.as_ref().map(|path| path.place)),
            ("commit", self.commit.map(|commit| commit.place)),
            ("commit_min", self.commit_min.map(|commit| commit.place)),
            ("commit_readings", self.commit_readings.map(|commit| commit.place)),
        ];
        let told = keys.into_iter().filter_map(|(key, place)| {
            let mistake = Mistake::new(place?, format!("`{key}` means nothing where nothing is kept on disk"));
            let mistake = mistake.related(self.in_memory.place, "nothing is");
            Some(mistake.help("take one of the two away"))
        });
        told.collect()
    }
}

/// The value, or `otherwise` where there is none or it is out of `range`.
fn in_range(
    key: &str,
    value: Option<Located<Duration>>,
    range: RangeInclusive<Duration>,
    otherwise: Duration,
    mistakes: &mut Vec<Mistake>,
) -> Duration {
    match value {
        None => otherwise,
        Some(value) => match value.outside(key, range) {
            None => value.value,
            Some(mistake) => {
                mistakes.push(mistake);
                otherwise
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(json: &str) -> Result<Plan, Vec<String>> {
        let settings: Settings = serde_json::from_str(json).unwrap();
        let resolved = settings.resolve(Path::new("/etc/edgeway"));
        resolved.map_err(|mistakes| mistakes.into_iter().map(|mistake| mistake.message).collect())
    }

    fn disk(json: &str) -> Disk {
        resolve(json).unwrap().disk.unwrap()
    }

    #[test]
    fn it_is_on_disk_unless_told_otherwise() {
        let plan = resolve("{}").unwrap();
        assert_eq!((plan.limit, plan.when_full), (512 * MB, WhenFull::DropOldest));
        let Disk { path, commit, commit_min, commit_readings } = plan.disk.unwrap();
        assert_eq!(path, Path::new("/var/lib/edgeway"));
        assert_eq!([commit, commit_min, commit_readings].map(|time| time.as_millis()), [100, 5, 2000]);
        let plan = resolve(r#"{"in_memory": true, "when_full": "refuse"}"#).unwrap();
        assert_eq!(plan, Plan { disk: None, limit: 64 * MB, when_full: WhenFull::Refuse });
        assert_eq!(resolve(r#"{"in_memory": true, "limit": "8MB"}"#).unwrap().limit, 8 * MB);
    }

    #[test]
    fn a_relative_path_is_beside_the_configuration() {
        assert_eq!(disk(r#"{"path": "data"}"#).path, Path::new("/etc/edgeway/data"));
        assert_eq!(disk(r#"{"path": "/mnt/ssd"}"#).path, Path::new("/mnt/ssd"));
        assert_eq!(resolve(r#"{"path": ""}"#).unwrap_err(), ["the journal wants a folder"]);
    }

    #[test]
    fn each_commit_has_its_range_and_the_hurried_ones_are_no_rarer_than_the_others() {
        assert_eq!(disk(r#"{"commit": "2ms"}"#).commit_min.as_millis(), 2);
        assert_eq!(disk(r#"{"commit": "1s", "commit_min": "1s"}"#).commit_min.as_millis(), 1000);
        for (json, wrong) in [
            (r#"{"commit": "0"}"#, "`commit` is 1ms to 10s"),
            (r#"{"commit": "11s"}"#, "`commit` is 1ms to 10s"),
            (r#"{"commit_min": "2s"}"#, "`commit_min` is 1ms to 1s"),
            (r#"{"commit_min": "200ms"}"#, "`commit_min` is at most `commit`, which is 100ms"),
            (r#"{"commit_readings": "1d"}"#, "`commit_readings` is 100ms to 1h"),
            (r#"{"limit": "1KB"}"#, "the most that waits is 1MB to 1024GB"),
        ] {
            assert_eq!(resolve(json).unwrap_err(), [wrong], "{json}");
        }
    }

    #[test]
    fn what_wants_a_disk_is_refused_without_one() {
        let wrong = resolve(r#"{"in_memory": true, "path": "/data", "commit": "1s"}"#).unwrap_err();
        assert_eq!(wrong, ["path", "commit"].map(|key| format!("`{key}` means nothing where nothing is kept on disk")));
    }
}
