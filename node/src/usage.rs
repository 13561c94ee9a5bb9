//! What this process has used of its machine.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The processor time of all threads of this process, in user mode and in the kernel.
pub fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(spent.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(spent.tv_nsec).unwrap_or_default())
}

/// How many bytes of it are in memory now. Known on Linux only (proc(5), `VmRSS`).
pub fn resident_bytes() -> Option<u64> {
    resident_in(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// The resident size in a text of the form of `/proc/self/status`, in bytes.
fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn work_shows_as_processor_time() {
        let (before, started) = (cpu(), Instant::now());
        while cpu() - before < Duration::from_millis(20) {
            assert!(started.elapsed() < Duration::from_secs(60), "no processor time in a minute of work");
        }
    }

    #[test]
    fn the_resident_size_is_read_from_its_line() {
        assert_eq!(resident_in("Name:\tfairpostd\nVmRSS:\t   68 kB\nVmData:\t9 kB\n"), Some(69_632));
        assert_eq!(resident_in("Name:\tfairpostd\n"), None);
        if cfg!(target_os = "linux") {
            assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
        }
    }
}
