//! Hostile bytes for the files that `fairpostctl` reads.

use std::fs;

use fairpost_hostile::{Target, run};
use fairpost_ops::settings::{Settings, read_trust};

#[test]
fn configuration_and_trust_are_read_whatever_stands_in_them() {
    let (configs, trusts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = "name = 'n1'\nlisten = '127.0.0.1:7401'\ndata = 'data'\n[raft]\nheartbeat_millis = 90\n[limits]\nbatch = 16\n";
    run(vec![
        Target::new("ops-settings", move |bytes| {
            let path = configs.path().join("fairpostd.toml");
            fs::write(&path, bytes).unwrap();
            let settings = Settings::read(&path, &["FAIRPOSTD_LIMITS__BATCH".to_owned()]);
            settings.map(|settings| settings.table(true))
        })
        .seed(config)
        .places(&["fairpostd.toml"])
        .memory(320, 1 << 20),
        Target::new("ops-trust", move |bytes| {
            let path = trusts.path().join("cluster.trust");
            fs::write(&path, bytes).unwrap();
            // What a valid one is made of has targets of its own; here it is the file that counts.
            read_trust(&path).map(drop)
        })
        .places(&["cluster.trust"]),
    ]);
}
