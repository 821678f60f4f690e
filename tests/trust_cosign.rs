//! Real cosigns and sealift verify what the other signed: cosign 2.5 and 3.1, both formats, on docker's registry and on ours.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::images::cluster_image;
use common::kubefiles::newer_peers;
use common::registry::DockerRegistry;
use common::sealift::{Sealift, assert_says};
use common::serve::Serve;
use common::trust::{keys, sign};

/// The predicate type of cosign's signatures.
const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";

/// One cosign with keys of its own in a directory of its own. Without network: no transparency log, no update of trusted roots.
struct Cosign {
    program: PathBuf,
    home: PathBuf,
    is_3: bool,
}

impl Cosign {
    fn new(version: &str, home: &Path) -> Self {
        let home = home.join(version);
        std::fs::create_dir_all(&home).unwrap();
        let root = r#"{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#;
        std::fs::write(home.join("root.json"), root).unwrap();
        std::fs::write(home.join("predicate.json"), "{}").unwrap();
        let cosign = Cosign { program: newer_peers().join(format!("cosign-{version}")), home, is_3: version.starts_with('3') };
        cosign.run(&["generate-key-pair"]).unwrap();
        cosign
    }

    /// Runs it; what it said, as an error if it failed.
    fn run(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(&self.home).env("COSIGN_PASSWORD", "correct horse").env("HOME", &self.home);
        let output = command.output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    fn public(&self) -> String {
        self.home.join("cosign.pub").display().to_string()
    }

    /// Signs the image in a format with cosign's own key. A bundle by cosign 2 is made by `attest`, with the predicate type of signatures.
    fn sign(&self, image: &str, format: &str) {
        let predicate = ["--predicate", "predicate.json", "--type", SIGNATURE];
        let args = match (self.is_3, format) {
            (true, "bundle") => vec!["sign", "--use-signing-config=false"],
            (true, _) => vec!["sign", "--use-signing-config=false", "--new-bundle-format=false"],
            (false, "bundle") => [&["attest", "--new-bundle-format"], &predicate[..]].concat(),
            (false, _) => vec!["sign"],
        };
        self.run(&[&args[..], &["-y", "--key", "cosign.key", "--tlog-upload=false", image]].concat()).unwrap();
    }

    fn verify(&self, image: &str, key: &str, format: &str) -> Result<String, String> {
        let args = match (self.is_3, format) {
            (false, "bundle") => vec!["verify-attestation", "--new-bundle-format", "--trusted-root", "root.json", "--type", SIGNATURE],
            _ => vec!["verify"],
        };
        self.run(&[&args[..], &["--key", key, "--insecure-ignore-tlog", image]].concat())
    }

    /// Attests with cosign's own key that something else holds.
    fn attest(&self, image: &str) {
        let args = ["attest", "-y", "--key", "cosign.key", "--tlog-upload=false", "--predicate", "predicate.json", "--type", "custom"];
        let bundle = if self.is_3 { "--use-signing-config=false" } else { "--new-bundle-format" };
        self.run(&[&args[..], &[bundle, image]].concat()).unwrap();
    }
}

/// Both cosigns, sealift, and images of it in docker's registry and in ours: `f` gets the name of a new one there by its digest.
fn with_registries(seed: u64, f: impl Fn(&[Cosign; 2], &Sealift, &dyn Fn(&str) -> String)) {
    let (here, site) = (Sealift::new(), Sealift::new());
    site.store();
    keys(&here, "own");
    let (docker, serve) = (DockerRegistry::start(), Serve::start(&site, &["--writable"]));
    let cosigns = ["2.5", "3.1"].map(|version| Cosign::new(version, here.home()));
    let made = Cell::new(0);
    for host in [docker.host(), serve.host()] {
        f(&cosigns, &here, &|repository| {
            let name = format!("{host}/{repository}:1");
            // another one each time: our registry lists what refers to an image in every repository that has it
            made.set(made.get() + 1);
            let image = cluster_image(&here.store(), &name, seed * 100 + made.get(), &[1000], &["web:1"]);
            here.ok(&["push", &name]);
            format!("{host}/{repository}@{}", image.digest())
        });
    }
}

#[test]
fn either_verifies_what_the_other_signed_in_both_formats() {
    with_registries(91, |cosigns, here, image_in| {
        let [key, public] = ["own.key", "own.pub"].map(|file| here.home().join(file).display().to_string());
        for format in ["simple", "bundle"] {
            let image = image_in(&format!("ours/{format}"));
            sign(here, &image, &key, &["--remote", "--format", format]);
            for (cosign, version) in cosigns.iter().zip(["2.5", "3.1"]) {
                cosign.verify(&image, &public, format).unwrap_or_else(|said| panic!("{version} {format} {image}: {said}"));
                assert!(cosign.verify(&image, &cosign.public(), format).is_err(), "{version} {format}: another key");
                let theirs = image_in(&format!("theirs-{version}/{format}"));
                cosign.sign(&theirs, format);
                cosign.verify(&theirs, &cosign.public(), format).unwrap();
                let verify = ["verify", &theirs, "--key", &cosign.public(), "--remote"];
                assert_eq!(here.json(&verify)["signatures"][0]["format"], format, "{version}");
                assert_says(&here.fails(6, &["verify", &theirs, "--key", &public, "--remote"]), &["another key"]);
            }
        }
    });
}

#[test]
fn bundles_travel_and_satisfy_a_policy() {
    with_registries(92, |cosigns, here, image_in| {
        let cosign = &cosigns[1];
        let image = image_in("team/shop");
        let (there, afar) = (Sealift::new(), Sealift::new());
        let policy = there.home().join("trust.yaml").display().to_string();
        std::fs::write(&policy, format!("trust: required\nkeys: [{}]\n", cosign.public())).unwrap();
        assert_says(&there.fails(6, &["pull", &image, "--trust-policy", &policy]), &["is not signed"]);
        cosign.attest(&image);
        assert_says(&there.fails(6, &["pull", &image, "--trust-policy", &policy]), &["is not signed"]);
        cosign.sign(&image, "bundle");
        there.ok(&["pull", &image, "--trust-policy", &policy]);
        let attached = &here.json(&["verify", &image, "--key", &cosign.public(), "--remote"])["attached"];
        assert_eq!(attached[0]["predicateType"], "https://cosign.sigstore.dev/attestation/v1", "{attached}");
        assert_eq!(attached.as_array().unwrap().len(), 1, "{attached}");
        // a bundle of cosign says not what the image was signed as
        let verify = ["verify", &image, "--key", &cosign.public()];
        assert_says(&there.fails(6, &[&verify[..], &["--signed-as", "**"]].concat()), &["it does not say what it was signed as"]);
        // by an archive, and into another registry
        let file = there.home().join("shop.tar").display().to_string();
        let docker = DockerRegistry::start();
        let elsewhere = docker.name("copy/shop:1");
        let tagged = format!("{}:1", image.split_once('@').unwrap().0);
        there.ok(&["tag", &image, &tagged]);
        there.ok(&["save", "-o", &file, &tagged]);
        afar.ok(&["load", "-i", &file, "--trust-policy", &policy]);
        afar.ok(&["prune"]);
        assert_says(&afar.ok(&["verify", &tagged, "--key", &cosign.public()]), &["is signed by"]);
        afar.ok(&["push", &tagged, &elsewhere]);
        let copied = format!("{}@{}", elsewhere.rsplit_once(':').unwrap().0, image.split_once('@').unwrap().1);
        cosign.verify(&copied, &cosign.public(), "bundle").unwrap();
    });
}

#[test]
fn an_attestation_does_not_sign() {
    with_registries(93, |cosigns, here, image_in| {
        for (cosign, version) in cosigns.iter().zip(["2.5", "3.1"]) {
            let image = image_in(&format!("attested/{version}"));
            cosign.attest(&image);
            let said = here.fails(6, &["verify", &image, "--key", &cosign.public(), "--remote"]);
            assert_says(&said, &["is not signed"]);
        }
    });
}

#[test]
fn signatures_pushed_to_the_local_registry_belong_to_their_image_there() {
    let (here, site, afar) = (Sealift::new(), Sealift::new(), Sealift::new());
    site.store();
    let serve = Serve::start(&site, &["--writable"]);
    let cosigns = ["2.5", "3.1"].map(|version| Cosign::new(version, here.home()));
    let (key, public) = keys(&here, "own");
    let mut keys = vec![public.clone()];
    let name = format!("{}/team/shop:1", serve.host());
    let image = cluster_image(&here.store(), &name, 94, &[1000], &["web:1"]);
    here.ok(&["push", &name]);
    let exact = format!("{}@{}", name.rsplit_once(':').unwrap().0, image.digest());
    for cosign in &cosigns {
        keys.push(cosign.public());
        for format in ["simple", "bundle"] {
            cosign.sign(&exact, format);
        }
    }
    for format in ["simple", "bundle"] {
        sign(&here, &name, &key, &["--remote", "--format", format]);
    }
    cosigns[0].run(&["attest", "-y", "--key", "cosign.key", "--tlog-upload=false", "--predicate", "predicate.json", &exact]).unwrap();
    let kept = "sea.hub:5000/team/shop:1";
    assert_eq!(site.json(&["images", "-q"]), serde_json::json!([kept]), "nothing that belongs to it is an image");
    let verified_by_all = |who: &Sealift, name: &str| {
        for key in &keys {
            let formats = who.json(&["verify", name, "--key", key])["signatures"].clone();
            let formats: Vec<&str> = formats.as_array().unwrap().iter().map(|one| one["format"].as_str().unwrap()).collect();
            assert_eq!(formats, ["simple", "bundle"], "{name} {key}");
        }
    };
    verified_by_all(&site, kept);
    // by an archive, and into another registry
    let (file, docker) = (site.home().join("shop.tar").display().to_string(), DockerRegistry::start());
    site.ok(&["save", "-o", &file, kept]);
    afar.ok(&["load", "-i", &file]);
    verified_by_all(&afar, kept);
    let copy = docker.name("copy/shop:1");
    site.ok(&["push", kept, &copy]);
    let copied = format!("{}@{}", copy.rsplit_once(':').unwrap().0, image.digest());
    for format in ["simple", "bundle"] {
        cosigns.iter().for_each(|cosign| drop(cosign.verify(&copied, &public, format).unwrap()));
    }
    // what was pushed is served as it was pushed, also after a prune
    site.ok(&["prune"]);
    verified_by_all(&site, kept);
    for format in ["simple", "bundle"] {
        cosigns.iter().for_each(|cosign| drop(cosign.verify(&exact, &cosign.public(), format).unwrap()));
    }
    // they go with their image
    site.ok(&["rmi", kept]);
    site.ok(&["prune"]);
    assert!(site.store().roots().unwrap().is_empty(), "{:?}", site.store().roots().unwrap());
}

#[test]
fn an_image_signed_where_it_is_served_is_verified_by_whoever_pulls() {
    let site = Sealift::new();
    let name = "sea.hub:5000/team/shop:1";
    let image = cluster_image(&site.store(), name, 95, &[1000], &[]);
    let (key, public) = keys(&site, "own");
    for format in ["simple", "bundle"] {
        sign(&site, name, &key, &["--format", format]);
    }
    let serve = Serve::start(&site, &[]);
    let exact = format!("{}/team/shop@{}", serve.host(), image.digest());
    for version in ["2.5", "3.1"] {
        let cosign = Cosign::new(version, site.home());
        for format in ["simple", "bundle"] {
            cosign.verify(&exact, &public, format).unwrap_or_else(|said| panic!("{version} {format}: {said}"));
        }
    }
}
