//! What `scripts/release.sh` says of the crates in the binary.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::cyclonedx::assert_is_cyclonedx;
use common::kubefiles::repository;
use common::run;
use serde_json::Value;

const TARGET: &str = "x86_64-unknown-linux-gnu";

fn crates(what: &str) -> String {
    run(repository("scripts/crates.py").to_str().unwrap(), &[what, TARGET])
}

#[test]
fn the_bill_of_the_crates_is_cyclonedx_and_the_same_every_time() {
    let bill = crates("bom");
    assert_eq!(crates("bom"), bill);
    let bill: Value = serde_json::from_str(&bill).unwrap();
    assert_is_cyclonedx(&bill);
    assert_eq!(bill["metadata"]["component"]["version"], env!("CARGO_PKG_VERSION"));
    for component in bill["components"].as_array().unwrap() {
        assert_eq!(component["hashes"][0]["alg"], "SHA-256", "{component}");
    }
}

#[test]
fn every_crate_of_the_bill_has_its_licence_in_the_list() {
    let (bill, list): (Value, String) = (serde_json::from_str(&crates("bom")).unwrap(), crates("licences"));
    for component in bill["components"].as_array().unwrap() {
        let [name, version, licence] =
            [&component["name"], &component["version"], &component["licenses"][0]["expression"]].map(|text| text.as_str().unwrap());
        assert!(list.contains(&format!("\n{name} {version}: {licence}")), "{component}");
    }
    assert!(list.contains("Redistribution and use in source and binary forms"), "the texts are there too");
}
