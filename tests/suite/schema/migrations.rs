//! Released migrations never change.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

/// Every merged migration with its SHA-256. New ones are added; existing lines never
/// change.
const MERGED: [(&str, &str); 26] = [
    (
        "0001_clusters.sql",
        "104a886715ab8a3eb039596deb03d94d489280634371e5527a1542088de09508",
    ),
    (
        "0002_ledger.sql",
        "7122669951e97ba5b73d1cbf0f03b540086003071bc44c7597f3d4ef8031959e",
    ),
    (
        "0003_triggers.sql",
        "91c6ccaf6addceedc5991d96286a7382dad23a9d6fc76ce257648110afcf6738",
    ),
    (
        "0004_safety.sql",
        "385dfd5c0bf2e05b9cc8a3d6f144f9e2ae52ef94cbb7f9f04e1eda8d92f5fe3f",
    ),
    (
        "0005_live.sql",
        "42d8d4dd140c9c9eddfe0edcd3a7e037c90f8cb9256beefe9ef3bf0cbdee5cc0",
    ),
    (
        "0006_access.sql",
        "46b2242620a0f588a374b85708cd9fd49c5c365c69483e80d84619fa128402db",
    ),
    (
        "0007_placing.sql",
        "4adbce84427ba29399e0f392af8aa770d808d6f4a6c8297939815440ff7dbdb1",
    ),
    (
        "0008_label_books.sql",
        "777424aa1d8ad1e2cd9bc1b21e44572544de8f2268df92edfc25a43f7575e098",
    ),
    (
        "0009_aside.sql",
        "0cb6915e0b96ba2022284229fc3db605ccf63b6b028617a2d2fa003df9cc8ef4",
    ),
    (
        "0010_distinct_ports.sql",
        "4813314f8284232d46b0b66aee117eb9ab8fd285523b6f479f2a7b112cba729e",
    ),
    (
        "0011_identity.sql",
        "1714a905f5b4d9df5032f28e88ae935147df2c11f3bfd2076931d9f4a6acd1d7",
    ),
    (
        "0012_steps.sql",
        "0150e03565f7f878d2ff9721f737ccbafdcacb222888a2ce91c4adacfe52bb09",
    ),
    (
        "0013_comments.sql",
        "d8a083780bc4347da382b90a6c11add7f2783a3458cc11a8462fb2ad1a895965",
    ),
    (
        "0014_notify.sql",
        "b60182d2e66002eb023c464da2f2f47b98667d7dd8c393613057bae3500c1d48",
    ),
    (
        "0015_went_back.sql",
        "140771b2b739ccf9d83defa0f96ab1f69b12e9ea3c1d97710ad613e4ea9d29bf",
    ),
    (
        "0016_timelines.sql",
        "42fa6a680f453bb5975ed028fdd61e55a98ff382bcf68715aaf84b6124d9755b",
    ),
    (
        "0017_refused.sql",
        "6c17c0b19797ffe8dc748006a7e41c78bfd8747042456d12dee149a9d0b2f017",
    ),
    (
        "0018_findings.sql",
        "6f3e1a44a2266911e47e81e847e225524955a6288505b980f9f26efe63bf1b15",
    ),
    (
        "0019_restarting.sql",
        "f4bcde0f7d78e19cbfac59c9b4ca9a8fb4174318842826a3e0bbb95b5918706f",
    ),
    (
        "0020_ports_and_times.sql",
        "0749a305c93fa46ce338276b9fa6553963d58188138f295b61eab26899fe0d7b",
    ),
    (
        "0021_declared.sql",
        "bf072ef524fecfca76bc97b45054bffe45dc701ea0b049475de81e25741d054a",
    ),
    (
        "0022_owned.sql",
        "7179b8e5fbd988182a645daa1b047be6911dc52c4964e83729303ef73842789a",
    ),
    (
        "0023_names.sql",
        "e8866e1289adf819e17c78fe83da999b91e6801ba25f3c752c14e0c4a83ac284",
    ),
    (
        "0024_server_ip.sql",
        "9b5054212d73c313e5c2a2c0666a5c924d4d2374e726df0c74b5c006c14b6e7a",
    ),
    (
        "0025_free_ports.sql",
        "d457b3f9193569896f7fce0e9279fc5b148763f9ffda7b9d65732650af2b8a69",
    ),
    (
        "0026_adopted.sql",
        "047966f07d55ce908aa4f7b906dd4b704146540b4698cfd9b2af9ba4ce416ead",
    ),
];

/// The name of a file and the SHA-256 of its content.
fn hashed(path: &Path) -> (String, String) {
    let hash = Sha256::digest(std::fs::read(path).unwrap());
    let hash = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    (name, hash)
}

#[test]
fn a_merged_migration_is_never_edited() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/migrations");
    let files = std::fs::read_dir(folder).unwrap();
    let mut found: BTreeMap<_, _> = files.map(|file| hashed(&file.unwrap().path())).collect();
    for (name, merged) in MERGED {
        let now = found.remove(name);
        assert_eq!(
            now.as_deref(),
            Some(merged),
            "{name} was merged, so databases have run it and will not run it again: \
             restore it, and add a new migration for what is to change"
        );
    }
    assert!(
        found.is_empty(),
        "new migrations: add them to this test's list, {found:#?}"
    );
}
