//! The recorder of all metrics: what the listener for Prometheus serves, and what operators ask for over gRPC.
//!
//! Metrics themselves are described in one file beside each component.
//!
//! # Guarantees
//!
//! Every `_seconds` metric is a histogram whose buckets only count up ([`BUCKETS`]), so that two looks at a node give the
//! percentiles of the time between them (test `durations_are_counted_in_buckets`).

use std::net::SocketAddr;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper ends of the buckets of every `_seconds` metric, in seconds: six a decade, from 50 µs to 10 s.
pub const BUCKETS: [f64; 33] = [
    50e-6, 70e-6, 100e-6, 150e-6, 200e-6, 300e-6, 500e-6, 700e-6, 1e-3, 1.5e-3, 2e-3, 3e-3, 5e-3, 7e-3,
    10e-3, 15e-3, 20e-3, 30e-3, 50e-3, 70e-3, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0,
    10.0,
];
/// Upper ends of the buckets of every `_batch_size` metric.
const SIZES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
/// How often samples are moved into their buckets, so that they do not pile up where nobody looks.
const UPKEEP: Duration = Duration::from_secs(5);

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The exporter does not start.
    #[error(transparent)]
    Exporter(#[from] BuildError),
    /// This process has a recorder already: it runs one node, and no second one.
    #[error("metrics are recorded already in this process, which runs another node")]
    Recorder,
}

/// Starts to record, and to serve at `address` if there is one. Must be called in a Tokio runtime.
pub fn start(address: Option<SocketAddr>) -> Result<PrometheusHandle, Error> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_batch_size".into()), &SIZES)?
        .upkeep_timeout(UPKEEP);
    let (recorder, handle) = match address {
        Some(address) => {
            let (recorder, exporter) = builder.with_http_listener(address).build()?;
            tokio::spawn(exporter);
            let handle = recorder.handle();
            (recorder, handle)
        }
        None => {
            let recorder = builder.build_recorder();
            let handle = recorder.handle();
            tokio::spawn(keep_up(handle.clone()));
            (recorder, handle)
        }
    };
    metrics::set_global_recorder(recorder).map_err(|_| Error::Recorder)?;
    Ok(handle)
}

async fn keep_up(handle: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        handle.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn durations_are_counted_in_buckets() {
        let handle = start(None).unwrap();
        for millis in [1, 1, 40] {
            metrics::histogram!("fairpost_test_seconds").record(Duration::from_millis(millis));
        }
        let text = handle.render();
        assert!(text.contains("fairpost_test_seconds_bucket{le=\"0.0007\"} 0"), "{text}");
        assert!(text.contains("fairpost_test_seconds_bucket{le=\"0.001\"} 2"), "{text}");
        assert!(text.contains("fairpost_test_seconds_bucket{le=\"0.05\"} 3"), "{text}");
        assert!(matches!(start(None), Err(Error::Recorder)), "one process is one node");
    }
}
