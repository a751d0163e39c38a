//! What processes take of their machine, as the system says it; nothing where it does not.

use std::time::Duration;

/// Where a container's limit of memory stands: of the second and of the first version of control groups.
const LIMIT_FILES: [&str; 2] =
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// What Linux counts the time of processes in, whatever its own clock does.
const TICKS_PER_SECOND: u64 = 100;

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Time on processors, of all its threads.
    pub processor: Duration,
    /// Memory in use now, in bytes.
    pub rss_bytes: u64,
    /// The most that it has had.
    pub peak_rss_bytes: u64,
}

/// The most memory this process has had in use, in bytes; 0 where the system does not say.
pub fn peak_rss_bytes() -> u64 {
    status_bytes("self", "VmHWM:").unwrap_or(0)
}

/// What a process on this machine has used; none if it has ended, or the system does not say.
pub fn usage_of(process: u32) -> Option<ProcessUsage> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let ticks = processor_ticks(&stat)?;
    let process = process.to_string();
    Some(ProcessUsage {
        processor: Duration::from_millis(ticks.saturating_mul(1_000 / TICKS_PER_SECOND)),
        rss_bytes: status_bytes(&process, "VmRSS:")?,
        peak_rss_bytes: status_bytes(&process, "VmHWM:")?,
    })
}

/// The memory that this process may have, in bytes: its container's limit, or what the machine has; none
/// where the system says neither.
pub fn memory_limit_bytes() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let machine = bytes_in(&machine, "MemTotal:");
    let limits = LIMIT_FILES
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    // Without a limit the first version writes a number beyond any machine.
    limits.chain(machine).min()
}

/// Time in the program and time in the system, the 14th and the 15th field. The second, the program's name,
/// is in parentheses and may hold anything.
fn processor_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    next()?.checked_add(next()?)
}

/// A line of a process's status that is in kibibytes, in bytes.
fn status_bytes(process: &str, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    bytes_in(&status, field)
}

fn bytes_in(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_whatever_the_program_is_called() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 1 2 3";
        assert_eq!(processor_ticks(stat), Some(300));
        assert_eq!(processor_ticks("7 (a"), None);
        assert_eq!(bytes_in("VmPeak:\t 9 kB\nVmRSS:\t 12 kB\n", "VmRSS:"), Some(12 << 10));
        assert_eq!(bytes_in("VmRSS:\t many kB\n", "VmRSS:"), None);
    }

    #[test]
    fn what_a_process_has_used_only_grows() {
        let before = usage_of(std::process::id()).unwrap();
        let mut sum = 0u64;
        while usage_of(std::process::id()).unwrap().processor == before.processor {
            sum = sum.wrapping_mul(31).wrapping_add(std::hint::black_box(7));
        }
        let after = usage_of(std::process::id()).unwrap();
        assert!(after.processor > before.processor, "{sum}");
        assert!(after.peak_rss_bytes >= after.rss_bytes && after.rss_bytes > 0);
        assert!(peak_rss_bytes() >= after.peak_rss_bytes);
        assert!(memory_limit_bytes().is_some_and(|limit| limit > after.rss_bytes));
        assert_eq!(usage_of(0), None, "the system's own");
    }
}
