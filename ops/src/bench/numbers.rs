//! Percentiles: of latencies, and of the histograms in a node's metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use super::report::Latency;

/// What so many latencies were like; all zero of none.
pub fn latency(samples: impl Iterator<Item = Duration>) -> Latency {
    let mut seconds: Vec<f64> = samples.map(|sample| sample.as_secs_f64()).collect();
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let rank = (share * seconds.len() as f64).ceil() as usize;
        seconds.get(rank.max(1) - 1).copied().unwrap_or_default()
    };
    let mean = seconds.iter().sum::<f64>() / (seconds.len() as f64).max(1.0);
    Latency { mean, p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1.0) }
}

/// A histogram as Prometheus has it: counts up to each bucket's end.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Histogram {
    buckets: Vec<(f64, f64)>,
    sum: f64,
    pub(super) count: f64,
}

/// Histograms by name and labels.
pub(super) type Histograms = BTreeMap<String, Histogram>;

/// Finds the histograms in Prometheus' text format; a histogram's key is its name with its labels, but for `le`.
pub(super) fn parse(text: &str) -> Histograms {
    let mut all = Histograms::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let Ok(value) = value.parse::<f64>() else { continue };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
        let (ends, others): (Vec<&str>, Vec<&str>) = labels.partition(|label| label.starts_with("le="));
        let key = |suffix: &str| {
            let labels = if others.is_empty() { String::new() } else { format!("{{{}}}", others.join(",")) };
            Some(format!("{}{labels}", name.strip_suffix(suffix)?))
        };
        if let Some(end) = ends.first() {
            let end = end.trim_start_matches("le=").trim_matches('"').parse();
            if let (Some(key), Ok(end)) = (key("_bucket"), end) {
                all.entry(key).or_default().buckets.push((end, value));
            }
        } else if let Some(key) = key("_sum") {
            all.entry(key).or_default().sum = value;
        } else if let Some(key) = key("_count") {
            all.entry(key).or_default().count = value;
        }
    }
    all.retain(|_, histogram| !histogram.buckets.is_empty());
    all
}

impl Histogram {
    /// What came since `before`.
    pub(super) fn since(mut self, before: Option<&Self>) -> Self {
        if let Some(before) = before {
            for (bucket, (_, count)) in self.buckets.iter_mut().zip(&before.buckets) {
                bucket.1 -= count;
            }
            self.sum -= before.sum;
            self.count -= before.count;
        }
        self
    }

    /// Counts `other` as well, which has the same buckets.
    pub(super) fn add(&mut self, other: &Self) {
        if self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
        } else {
            for (bucket, (_, count)) in self.buckets.iter_mut().zip(&other.buckets) {
                bucket.1 += count;
            }
        }
        self.sum += other.sum;
        self.count += other.count;
    }

    /// The mean; zero of nothing.
    pub(super) fn mean(&self) -> f64 {
        if self.count > 0.0 { self.sum / self.count } else { 0.0 }
    }

    /// The value below which this share lies, as if each bucket were evenly filled. Beyond the last bucket with an end:
    /// that end.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        if self.count <= 0.0 {
            return 0.0;
        }
        let rank = share * self.count;
        let (mut begin, mut below) = (0.0, 0.0);
        for (end, count) in &self.buckets {
            if *count >= rank && *count > below {
                let part = (rank - below) / (count - below);
                return if end.is_finite() { begin + (end - begin) * part } else { begin };
            }
            (begin, below) = (if end.is_finite() { *end } else { begin }, *count);
        }
        begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE fairpost_release_seconds histogram\n\
        fairpost_release_seconds_bucket{stage=\"order\",le=\"0.001\"} 2\n\
        fairpost_release_seconds_bucket{stage=\"order\",le=\"0.002\"} 6\n\
        fairpost_release_seconds_bucket{stage=\"order\",le=\"+Inf\"} 8\n\
        fairpost_release_seconds_sum{stage=\"order\"} 0.016\n\
        fairpost_release_seconds_count{stage=\"order\"} 8\n\
        fairpost_decisions_total{outcome=\"decided\"} 3\n\
        fairpost_batch_size{quantile=\"0.5\"} 3\nfairpost_batch_size_sum 3\nfairpost_batch_size_count 1\n";
    const KEY: &str = "fairpost_release_seconds{stage=\"order\"}";

    #[test]
    fn histograms_are_found_by_name_and_labels() {
        let all = parse(TEXT);
        assert_eq!(all.keys().collect::<Vec<_>>(), [KEY]);
        assert_eq!((all[KEY].count, all[KEY].mean()), (8.0, 0.002));
    }

    #[test]
    fn a_quantile_lies_in_its_bucket() {
        let histogram = &parse(TEXT)[KEY];
        assert!((histogram.quantile(0.5) - 0.0015).abs() < 1e-9, "{}", histogram.quantile(0.5));
        assert!((histogram.quantile(0.125) - 0.0005).abs() < 1e-9);
        assert_eq!(histogram.quantile(0.99), 0.002, "there is no end beyond it");
        assert_eq!(Histogram::default().quantile(0.5), 0.0);
    }

    #[test]
    fn what_was_there_before_does_not_count() {
        let mut now = parse(TEXT)[KEY].clone();
        let since = now.clone().since(Some(&now));
        assert_eq!((since.count, since.mean(), since.quantile(0.5)), (0.0, 0.0, 0.0));
        now.add(&since);
        assert_eq!(now, parse(TEXT)[KEY]);
        now.add(&now.clone());
        assert_eq!((now.count, now.mean()), (16.0, 0.002));
    }

    #[test]
    fn percentiles_are_samples() {
        let of = |millis: &[u64]| latency(millis.iter().map(|millis| Duration::from_millis(*millis)));
        let many: Vec<u64> = (1..=100).rev().collect();
        let found = of(&many);
        assert_eq!((found.p50, found.p90, found.p99, found.max), (0.05, 0.09, 0.099, 0.1));
        assert!((found.mean - 0.0505).abs() < 1e-9);
        assert_eq!(of(&[7]).p99, 0.007);
        assert_eq!(of(&[]).max, 0.0);
    }
}
