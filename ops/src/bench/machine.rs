//! Whether anybody else uses this machine's processors: then what was measured says little.

/// What the processors have done since the machine started, in ticks of any length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticks {
    busy: u64,
    all: u64,
}

impl Ticks {
    /// Until now. Known on Linux only (proc(5), `/proc/stat`).
    pub(super) fn now() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    /// From a text of the form of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal. What a guest system
    /// has used is in the first two. Time that the host gave to others counts as busy: nobody here had it.
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
        let all = ticks.iter().sum();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        (ticks.len() >= 5).then_some(Self { busy: all - idle, all })
    }

    /// How many of `cores` processors were busy since `before`.
    pub(super) fn busy_since(self, before: Self, cores: usize) -> f64 {
        let (busy, all) = (self.busy.saturating_sub(before.busy), self.all.saturating_sub(before.all));
        cores as f64 * busy as f64 / all.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_not_working() {
        let at = |text| Ticks::parse(text).unwrap();
        let before = at("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3 4 5\n");
        let after = at("cpu  130 5 60 1000 95 3 2 5 9 9\n");
        // 55 of 300 ticks.
        let busy = after.busy_since(before, 2);
        assert!((busy - 110.0 / 300.0).abs() < 1e-9, "{busy}");
        assert_eq!(before.busy_since(before, 2), 0.0);
        assert_eq!(Ticks::parse("cpu  1 2\n"), None);
        assert_eq!(Ticks::parse(""), None);
    }
}
