//! Clusterfiles from Sealer's and ACK-Distro's repositories: what Sealer decodes loads, what is broken says where.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use sealift::clusterfile;
use sealift::diagnostic::{Diagnostic, Invalid};

/// One row of the index: a file, whether it is YAML, and what Sealer makes of it.
struct Case {
    name: String,
    is_yaml: bool,
    sealer: String,
    text: String,
}

/// Files that Sealer refuses, or would run into a wall with, and the error that we give instead.
const REFUSED: &[(&str, &str)] = &[
    ("doc-sealer-v0.5.2__docs__design__clusterfile-v2.md__block2.yaml", "duplicate address 192.168.0.3"),
    ("doc-sealer-v0.7.1__applications__README.md__block1.yaml", "expected text, found a mapping"),
    (
        "doc-sealer-v0.7.1__docs__site__src__docs__getting-started__config.md__block3.yaml",
        "my-SAAS-all-inone:latest`: invalid reference format",
    ),
    ("doc-sealer-v0.8.6__docs__design__global-config.md__block5.yaml", "my-SAAS-all-inone:latest`: invalid reference format"),
    ("doc-sealer-v0.8.6__docs__design__plugin_zh.md__block9.yaml", "plugin `` has no `type`"),
    ("doc-sealer-v0.8.6__docs__design__global-config.md__block4.yaml", "expected a list or a mapping, found text"),
    ("doc-sealer.cool__src__v0.8.6__en__getting-started__using-clusterfile.md__block10.yaml", "expected a list, found a mapping"),
    ("doc-sealer.cool__src__v0.9.0__concept__clusterfile.md__block8.yaml", "expected a list, found a mapping"),
    ("sealer-v0.9.0__utils__test__file__Clusterfile", "a host entry without `ips`"),
];

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cases");
    let index = std::fs::read_to_string(folder.join("INDEX.tsv")).expect("the index is there");
    let rows = index.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
    rows.filter(|row| ["Clusterfile", "Plugin", "Config/Application", "kubeadm"].contains(&row[1].as_str()))
        .map(|row| Case {
            text: std::fs::read_to_string(folder.join(&row[0])).expect("a file of the index is there"),
            name: row[0].clone(),
            is_yaml: row[3] == "yaml-ok",
            sealer: row.get(6).cloned().unwrap_or_default(),
        })
        .collect()
}

fn errors_of(case: &Case) -> Vec<Diagnostic> {
    match clusterfile::load(&case.name, &case.text) {
        Ok(_) => Vec::new(),
        Err(error) => {
            let diagnostics = error.downcast_ref::<Invalid>().expect("a file's error holds its diagnostics").diagnostics.clone();
            diagnostics.into_iter().filter(Diagnostic::is_error).collect()
        }
    }
}

#[test]
fn every_file_that_sealer_decodes_loads() {
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.is_yaml).collect();
    assert!(cases.len() > 80, "{}", cases.len());
    for case in &cases {
        let errors = errors_of(case);
        match REFUSED.iter().find(|(name, _)| *name == case.name) {
            Some((_, expected)) => {
                assert!(!case.sealer.contains("decodes"), "{}", case.name);
                assert!(errors.iter().any(|error| error.message.contains(expected)), "{}: {errors:?}", case.name);
            }
            None => assert!(errors.is_empty(), "{} ({}): {}", case.name, case.sealer, errors[0].render(&case.text, false)),
        }
    }
}

#[test]
fn every_file_that_is_not_yaml_says_where() {
    for case in cases().iter().filter(|case| !case.is_yaml) {
        let errors = errors_of(case);
        assert_eq!(errors.len(), 1, "{}", case.name);
        assert!(errors[0].message.starts_with("not YAML: "), "{}: {errors:?}", case.name);
        let place = errors[0].located(&case.text);
        assert!(place.line > 1 || case.text.starts_with('['), "{}: {place:?}", case.name);
    }
}

#[test]
fn every_loaded_file_is_written_without_secrets_and_loads_back_the_same() {
    for case in cases().iter().filter(|case| case.is_yaml) {
        let Ok(first) = clusterfile::load(&case.name, &case.text) else { continue };
        let written = first.to_yaml().unwrap();
        for secret in ["Seadent123", "Passw0rd!", "password123"] {
            assert!(!written.contains(secret), "{}: {written}", case.name);
        }
        let second = clusterfile::load(&case.name, &written).unwrap_or_else(|error| panic!("{}: {error:#}\n{written}", case.name));
        assert_eq!(second.to_yaml().unwrap(), written, "{}", case.name);
        assert_eq!(format!("{:?}", second.kubeadm), format!("{:?}", first.kubeadm), "{}", case.name);
        assert_eq!(second.configs, first.configs, "{}", case.name);
        assert_eq!(second.cluster.networks, first.cluster.networks, "{}", case.name);
        assert_eq!(second.cluster.hosts.len(), first.cluster.hosts.len(), "{}", case.name);
    }
}
