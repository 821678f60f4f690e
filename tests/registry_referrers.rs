//! Referrers of an image are pushed and listed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::images::{container_image, put};
use common::registry::DockerRegistry;
use common::run;
use common::sealift::Sealift;
use common::serve::Serve;
use oci_spec::image::{Descriptor, MediaType};
use sealift::events::Context;
use sealift::image::{Blob, Digest, Reference};
use sealift::registry::client::{Client, Options};
use serde_json::json;

const SBOM: &str = "application/vnd.cyclonedx+json";
const SIGNATURE: &str = "application/vnd.example.signature";

/// An artifact of one layer that refers to `subject`.
fn artifact(who: &Sealift, subject: &Descriptor, artifact_type: &str, content: &str) -> Descriptor {
    let store = who.store();
    let layer = put(&store, MediaType::from(artifact_type), content.as_bytes());
    let config = put(&store, MediaType::EmptyJSON, b"{}");
    let manifest = json!({"schemaVersion": 2, "mediaType": MediaType::ImageManifest, "artifactType": artifact_type, "config": config,
        "layers": [layer], "subject": subject, "annotations": {"note": content}});
    put(&store, MediaType::ImageManifest, manifest.to_string().as_bytes())
}

fn digests(listed: &[Descriptor]) -> Vec<String> {
    let mut digests: Vec<String> = listed.iter().map(|referrer| referrer.digest().to_string()).collect();
    digests.sort();
    digests
}

#[tokio::test]
async fn referrers_are_listed_by_tag_where_the_registry_has_no_api() {
    let registry = DockerRegistry::start();
    let (here, there, ctx) = (Sealift::new(), Sealift::new(), Context::silent());
    let name: Reference = registry.name("team/shop:1").parse().unwrap();
    let client = Client::new(Options::default()).unwrap();
    let image = container_image(&here.store(), 31, &[1000]);
    let subject = Digest::try_from(image.digest()).unwrap();
    client.push(&image, &name, &here.store(), &ctx).await.unwrap();
    assert_eq!(client.referrers(&name, &subject, None, &ctx).await.unwrap(), []);

    let all =
        [artifact(&here, &image, SBOM, "one"), artifact(&here, &image, SIGNATURE, "two"), artifact(&here, &image, SIGNATURE, "three")];
    for referrer in all.iter().chain(&all[..1]) {
        let by_digest = name.with_digest(referrer.digest().try_into().unwrap());
        client.push(referrer, &by_digest, &here.store(), &ctx).await.unwrap();
    }
    assert_eq!(digests(&client.referrers(&name, &subject, None, &ctx).await.unwrap()), digests(&all), "each once");
    let signatures = client.referrers(&name, &subject, Some(SIGNATURE), &ctx).await.unwrap();
    assert_eq!(digests(&signatures), digests(&all[1..]));
    assert!(signatures.iter().all(|one| one.annotations().as_ref().unwrap().contains_key("note")), "{signatures:?}");

    // others read the same tag
    let fallback = format!("docker://{}", name.with_tag(&format!("sha256-{}", subject.hex())));
    let raw = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &fallback]);
    let index: serde_json::Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 3, "{raw}");

    // and what was listed is got by its digest, whole or piece by piece
    let sbom = name.with_digest(all[0].digest().try_into().unwrap());
    client.pull(&sbom, &[], &there.store(), &ctx).await.unwrap();
    assert!(there.store().has(&Blob::of(b"one")));
    let (descriptor, bytes) = client.manifest(&name.with_digest(all[1].digest().try_into().unwrap()), &ctx).await.unwrap().unwrap();
    assert_eq!((descriptor.digest(), Blob::of(&bytes)), (all[1].digest(), Blob::try_from(&all[1]).unwrap()));
    assert_eq!(client.pull_blob(&name, &Blob::of(b"two"), &there.store(), &ctx).await.unwrap(), 3);
    assert_eq!(client.pull_blob(&name, &Blob::of(b"two"), &there.store(), &ctx).await.unwrap(), 0);
    assert!(client.pull_blob(&name, &Blob::of(b"nothing"), &there.store(), &ctx).await.is_err());
    assert!(client.manifest(&name.with_digest(Digest::of(b"nothing")), &ctx).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_updates_of_a_referrers_tag_lose_nothing() {
    let registry = DockerRegistry::start();
    let (here, ctx) = (Sealift::new(), Context::silent());
    let name: Reference = registry.name("team/shop:1").parse().unwrap();
    let client = Client::new(Options::default()).unwrap();
    let image = container_image(&here.store(), 35, &[1000]);
    client.push(&image, &name, &here.store(), &ctx).await.unwrap();
    let all: Vec<Descriptor> = (0..6).map(|number| artifact(&here, &image, SIGNATURE, &format!("signature {number}"))).collect();
    let writer = |mine: Vec<Descriptor>| {
        let (name, store, ctx) = (name.clone(), here.store(), ctx.clone());
        async move {
            // a client of its own, as another process has
            let client = Client::new(Options::default()).unwrap();
            for referrer in mine {
                let by_digest = name.with_digest(referrer.digest().try_into().unwrap());
                client.push(&referrer, &by_digest, &store, &ctx).await.unwrap();
            }
        }
    };
    let (one, other) = (tokio::spawn(writer(all[..3].to_vec())), tokio::spawn(writer(all[3..].to_vec())));
    one.await.unwrap();
    other.await.unwrap();
    let subject = Digest::try_from(image.digest()).unwrap();
    assert_eq!(digests(&client.referrers(&name, &subject, None, &ctx).await.unwrap()), digests(&all));
}

#[tokio::test]
async fn referrers_are_listed_by_the_api_of_the_local_registry() {
    let (site, here, ctx) = (Sealift::new(), Sealift::new(), Context::silent());
    site.store();
    let serve = Serve::start(&site, &["--writable"]);
    let name: Reference = format!("{}/team/shop:1", serve.host()).parse().unwrap();
    let client = Client::new(Options::default()).unwrap();
    let image = container_image(&here.store(), 33, &[1000]);
    client.push(&image, &name, &here.store(), &ctx).await.unwrap();
    let all = [artifact(&here, &image, SBOM, "one"), artifact(&here, &image, SIGNATURE, "two")];
    for referrer in &all {
        let by_digest = name.with_digest(referrer.digest().try_into().unwrap());
        client.push(referrer, &by_digest, &here.store(), &ctx).await.unwrap();
    }
    let subject = image.digest().try_into().unwrap();
    assert_eq!(digests(&client.referrers(&name, &subject, None, &ctx).await.unwrap()), digests(&all));
    assert_eq!(digests(&client.referrers(&name, &subject, Some(SBOM), &ctx).await.unwrap()), digests(&all[..1]));
    let tag = name.with_tag(&format!("sha256-{}", subject.hex()));
    assert!(client.manifest(&tag, &ctx).await.unwrap().is_none(), "no tag is needed");
    // a prune on site keeps what refers to what is kept
    site.ok(&["prune"]);
    assert_eq!(digests(&client.referrers(&name, &subject, None, &ctx).await.unwrap()), digests(&all));
}

#[tokio::test]
async fn a_manifest_is_pushed_by_itself_once_its_blobs_are_there() {
    let registry = DockerRegistry::start();
    let (here, ctx) = (Sealift::new(), Context::silent());
    let name: Reference = registry.name("team/shop:1").parse().unwrap();
    let client = Client::new(Options::default()).unwrap();
    let image = container_image(&here.store(), 32, &[1000]);
    client.push(&image, &name, &here.store(), &ctx).await.unwrap();
    let referrer = artifact(&here, &image, SBOM, "alone");
    let bytes = here.store().read(&(&referrer).try_into().unwrap()).unwrap();
    let by_digest = name.with_digest(referrer.digest().try_into().unwrap());
    assert!(client.push_manifest(&by_digest, &referrer, &bytes, &ctx).await.is_err(), "its layer is not there");
    for content in ["alone", "{}"] {
        client.push_blob(&name, &Blob::of(content.as_bytes()), &here.store(), &ctx).await.unwrap();
    }
    client.push_manifest(&by_digest, &referrer, &bytes, &ctx).await.unwrap();
    let listed = client.referrers(&name, &image.digest().try_into().unwrap(), None, &ctx).await.unwrap();
    assert_eq!(digests(&listed), digests(&[referrer]));
}
