//! The SBOM of an image: valid CycloneDX 1.6, lists what the image contains, reproducible.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;

use common::cyclonedx::assert_is_cyclonedx;
use common::images::put;
use common::registry::DockerRegistry;
use common::sealift::{Sealift, assert_says};
use common::trust::{keys, sign};
use oci_spec::image::{Descriptor, MediaType};
use sealift::events::Context;
use sealift::image::{Digest, Reference};
use sealift::registry::client::{Client, Options};
use sealift::store::Workload;
use sealift::trust::sbom;
use serde_json::{Value, json};

const DPKG: &str = "Package: libc6\nStatus: install ok installed\nVersion: 2.36-9+deb12u4\nArchitecture: amd64\n";
const APK: &str = "P:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\n";

/// An image with a system, a package and one more file.
fn build(sealift: &Sealift, name: &str) {
    let context = sealift.home().join("context");
    for (path, content) in [
        ("tree/var/lib/dpkg/status", DPKG),
        ("tree/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
        ("tree/usr/bin/tool", "tool"),
        ("Kubefile", "FROM scratch\nCOPY tree /\n"),
    ] {
        let place = context.join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, content).unwrap();
    }
    sealift.ok(&["build", "-t", name, context.to_str().unwrap()]);
}

/// A container image with the database of apk.
fn container(sealift: &Sealift) -> Descriptor {
    let store = sealift.store();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(APK.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "lib/apk/db/installed", APK.as_bytes()).unwrap();
    let tar = tar.into_inner().unwrap();
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [Digest::of(&tar)]}});
    let config = put(&store, MediaType::ImageConfig, config.to_string().as_bytes());
    let layer = put(&store, MediaType::ImageLayer, &tar);
    let manifest = json!({"schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [layer]});
    put(&store, MediaType::ImageManifest, manifest.to_string().as_bytes())
}

fn of_type<'a>(components: &'a Value, kind: &str) -> Vec<&'a Value> {
    components.as_array().unwrap().iter().filter(|component| component["type"] == kind).collect()
}

#[test]
fn packages_files_and_container_images_are_in_the_bill_and_it_never_changes() {
    let sealift = Sealift::new();
    build(&sealift, "shop:1");
    let bom = sealift.json(&["sbom", "shop:1"]);
    assert_is_cyclonedx(&bom);
    let libraries = of_type(&bom["components"], "library");
    assert_eq!(libraries[0]["purl"], "pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64&distro=debian-12");
    let files = of_type(&bom["components"], "file");
    let tool = files.iter().find(|file| file["name"] == "/usr/bin/tool").unwrap();
    assert_eq!(tool["hashes"][0]["content"], Digest::of(b"tool").hex());
    assert_eq!(sealift.json(&["sbom", "shop:1"]), bom);

    let (store, name) = (sealift.store(), "shop:1".parse().unwrap());
    let mut part = store.inspect_platform(&name, None).unwrap();
    for workload in ["web:1", "copy:1"] {
        let name: Reference = workload.parse().unwrap();
        part.workloads.push(Workload { name, descriptor: container(&sealift), app: None, size: 0 });
    }
    let bom = sbom(&store, &name, &part, &Context::silent()).unwrap();
    assert_is_cyclonedx(&bom);
    let containers = of_type(&bom["components"], "container");
    assert_eq!((containers.len(), &containers[0]["name"]), (2, &json!("web:1")));
    let inside = &containers[0]["components"][0];
    assert_eq!(
        (&inside["purl"], &inside["licenses"][0]["license"]["name"]),
        (&json!("pkg:apk/alpine/musl@1.2.4-r2?arch=x86_64"), &json!("MIT"))
    );
}

#[tokio::test]
async fn an_attached_bill_goes_with_its_image() {
    let registry = DockerRegistry::start();
    let (here, there) = (Sealift::new(), Sealift::new());
    let name = registry.name("team/shop:1");
    build(&here, &name);
    let bom = here.json(&["sbom", &name, "--attach"]);
    here.ok(&["sbom", &name, "--attach"]);
    here.ok(&["push", &name]);
    there.ok(&["pull", &name]);
    let image = there.store().find(&name.parse().unwrap()).unwrap();
    let subject = Digest::try_from(image.digest()).unwrap();
    let client = Client::new(Options::default()).unwrap();
    let listed =
        client.referrers(&name.parse().unwrap(), &subject, Some("application/vnd.cyclonedx+json"), &Context::silent()).await.unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    let kept = there.store().referrers(&subject).unwrap();
    assert_eq!((kept.len(), kept[0].digest()), (1, listed[0].digest()));
    assert_eq!(there.json(&["sbom", &name]), bom);
}

#[test]
fn a_bill_is_pushed_beside_an_image_that_a_registry_has_and_everyone_lists_it() {
    let registry = DockerRegistry::start();
    let (here, afar) = (Sealift::new(), Sealift::new());
    let name = registry.name("team/shop:1");
    build(&here, &name);
    let said = here.fails(1, &["sbom", &name, "--attach", "--push"]);
    assert_says(&said, &["does not have", "hint: `sealift push"]);
    let (key, public) = keys(&here, "own");
    sign(&here, &name, &key, &[]);
    here.ok(&["push", &name]);
    here.ok(&["sbom", &name, "--attach", "--push"]);
    for who in [&here, &afar] {
        assert_says(&who.ok(&["verify", &name, "--key", &public]), &["is signed by", "attached: application/vnd.cyclonedx+json (sha256:"]);
    }
    afar.ok(&["pull", &name]);
    let types = |who: &Sealift| {
        let listed = who.json(&["inspect", &name]);
        let mut types: Vec<String> =
            listed["referrers"].as_array().unwrap().iter().map(|one| one["artifactType"].as_str().unwrap().to_owned()).collect();
        types.sort();
        types
    };
    assert_eq!(types(&afar), ["application/vnd.cyclonedx+json", "application/vnd.dev.cosign.artifact.sig.v1+json"]);
    assert_eq!(types(&afar), types(&here));
    assert_says(&afar.ok(&["inspect", &name]), &["Referrers", "application/vnd.cyclonedx+json", "the image"]);
}
