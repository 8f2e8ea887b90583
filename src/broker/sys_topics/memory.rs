//! The memory of this process, where the system tells.

/// Bytes of memory that the process has in RAM.
#[derive(Debug, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub current: u64,
    /// The most that it has had.
    pub highest: u64,
}

/// `None` where there is no `/proc`.
pub fn of_this_process() -> Option<Memory> {
    // The kernel makes this text up when it is read; no disk is waited for.
    parse(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse(status: &str) -> Option<Memory> {
    let bytes = |key: &str| {
        let kilobytes = status.lines().find_map(|line| line.strip_prefix(key))?.trim().strip_suffix(" kB")?;
        Some(kilobytes.parse::<u64>().ok()? * 1024)
    };
    Some(Memory { current: bytes("VmRSS:")?, highest: bytes("VmHWM:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_of_the_status_of_the_process() {
        let status = "Name:\tedgeway\nVmHWM:\t    9812 kB\nVmRSS:\t    9600 kB\nThreads:\t3\n";
        assert_eq!(parse(status), Some(Memory { current: 9600 * 1024, highest: 9812 * 1024 }));
        assert_eq!(parse("Name:\tedgeway\n"), None);
    }
}
