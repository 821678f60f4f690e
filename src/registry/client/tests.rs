//! The client against a registry that misbehaves.

use oci_spec::image::{Descriptor, DescriptorBuilder, MediaType};
use serde_json::json;
use std::io::Write as _;

use super::fake::{Fake, Fault, Then};
use super::*;
use crate::image::{Blob, Digest};

/// Larger than what goes in one request.
const LAYER: usize = 3 << 20;

struct Site {
    fake: Fake,
    dir: tempfile::TempDir,
}

impl Site {
    async fn new() -> Site {
        Site { fake: Fake::start().await, dir: tempfile::tempdir().unwrap() }
    }

    fn store(&self, name: &str) -> Store {
        Store::open(&self.dir.path().join(name)).unwrap()
    }

    fn name(&self) -> Name {
        format!("{}/a:1", self.fake.host).parse().unwrap()
    }

    fn client(&self, password: Option<&str>) -> Client {
        let file = self.dir.path().join("auth.json");
        if let Some(password) = password {
            keep(&file, &self.fake.host, password, &"secret".into()).unwrap();
        }
        Client::new(Options { authfiles: vec![file], ..Options::default() }).unwrap()
    }

    fn fault(&self, at: impl Into<String>, then: Then) {
        self.fake.state().faults.push(Fault { at: at.into(), then });
    }

    async fn push(&self, store: &Store, root: &Descriptor) -> Result<Summary> {
        self.client(None).push(root, &self.name(), store, &Job::silent()).await
    }

    async fn pull(&self, store: &Store) -> Result<(Descriptor, Summary)> {
        self.client(None).pull(&self.name(), &[], store, &Job::silent()).await
    }
}

fn layer() -> Vec<u8> {
    (0..LAYER as u32 / 4).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// Puts an image of one layer.
fn image(store: &Store) -> Descriptor {
    let descriptor = |media_type: &str, blob: Blob| json!({"mediaType": media_type, "digest": blob.digest, "size": blob.size});
    let mut writer = store.writer().unwrap();
    writer.write_all(&layer()).unwrap();
    let layer = descriptor("application/vnd.oci.image.layer.v1.tar", writer.commit().unwrap());
    let config = descriptor("application/vnd.oci.empty.v1+json", store.put(b"{}").unwrap());
    let manifest =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": [layer]});
    let blob = store.put(manifest.to_string().as_bytes()).unwrap();
    DescriptorBuilder::default().media_type(MediaType::ImageManifest).digest(blob.digest).size(blob.size).build().unwrap()
}

#[tokio::test]
async fn what_a_second_try_can_mend_is_tried_again() {
    for (what, at, then, said) in [
        ("limited", "GET /v2/a/manifests", Then::Status(429, "retry-after", "1"), "GET /v2/a/manifests"),
        ("overloaded", "GET /v2/a/blobs", Then::Status(503, "", ""), "GET /v2/a/blobs"),
        ("broken", "GET /v2/a/manifests", Then::Status(500, "", ""), "GET /v2/a/manifests"),
        ("corrupted", "GET /v2/a/blobs", Then::Flip, "GET /v2/a/blobs"),
    ] {
        let site = Site::new().await;
        let root = image(&site.store("here"));
        site.push(&site.store("here"), &root).await.unwrap();
        site.fault(at, then);
        let began = std::time::Instant::now();
        let (pulled, _) = site.pull(&site.store("there")).await.unwrap();
        assert_eq!(pulled.digest(), root.digest(), "{what}");
        let once = if said.contains("manifests") { 1 } else { 2 };
        assert_eq!(site.fake.count(said), once + 1, "{what}");
        assert!(what != "limited" || began.elapsed().as_millis() >= 1000, "{what}: the wait that was asked for");
    }
}

#[tokio::test]
async fn what_no_second_try_can_mend_is_not_tried_again() {
    for (status, kind) in [(403, Kind::Failed), (418, Kind::Failed)] {
        let site = Site::new().await;
        let root = image(&site.store("here"));
        site.push(&site.store("here"), &root).await.unwrap();
        site.fault("GET /v2/a/manifests", Then::Status(status, "", ""));
        let error = site.pull(&site.store("there")).await.unwrap_err();
        assert_eq!(kind_of(&error), kind, "{error:#}");
        assert_eq!(site.fake.count("GET /v2/a/manifests"), 1, "{status}");
    }
}

#[tokio::test]
async fn a_download_goes_on_with_a_closed_range_or_from_the_start_where_ranges_are_ignored() {
    for (then, range) in
        [(None, "bytes=1000-3145727"), (Some(Then::WholeInstead), "bytes=1000-3145727"), (Some(Then::Status(416, "", "")), "")]
    {
        let site = Site::new().await;
        let root = image(&site.store("here"));
        site.push(&site.store("here"), &root).await.unwrap();
        let (there, blob) = (site.store("there"), Blob::of(&layer()));
        there.ingest(&blob).unwrap().write_all(&layer()[..1000]).unwrap();
        if let Some(then) = then {
            site.fault(format!("GET /v2/a/blobs/{}", blob.digest), then);
        }
        site.pull(&there).await.unwrap();
        assert!(there.has(&blob));
        assert!(site.fake.count(range) >= 1, "{:?}", site.fake.state().log);
    }
}

#[tokio::test]
async fn an_upload_goes_on_where_it_broke() {
    let site = Site::new().await;
    let here = site.store("here");
    let root = image(&here);
    site.fault("PATCH", Then::Keep(1_000_000, 502));
    let summary = site.push(&here, &root).await.unwrap();
    assert_eq!(site.fake.count("1000000-3145727"), 1, "{:?}", site.fake.state().log);
    assert!(site.fake.state().blobs.contains_key(&Digest::of(&layer()).to_string()));
    assert_eq!(summary.moved_blobs, 2);
}

#[tokio::test]
async fn another_process_goes_on_with_an_upload() {
    let site = Site::new().await;
    let here = site.store("here");
    let root = image(&here);
    site.fault("PATCH", Then::Keep(2_000_000, 403));
    assert!(site.push(&here, &root).await.is_err());
    site.push(&here, &root).await.unwrap();
    assert_eq!(site.fake.count("2000000-3145727"), 1, "{:?}", site.fake.state().log);
    assert_eq!(std::fs::read_dir(here.root().join("uploads")).unwrap().count(), 0, "nothing is left to go on with");
}

#[tokio::test]
async fn an_upload_that_the_registry_forgot_begins_anew() {
    let site = Site::new().await;
    let here = site.store("here");
    let root = image(&here);
    site.fault("PATCH", Then::Keep(2_000_000, 403));
    assert!(site.push(&here, &root).await.is_err());
    site.fake.state().uploads.clear();
    site.push(&here, &root).await.unwrap();
    assert_eq!(site.fake.count("0-3145727"), 2, "{:?}", site.fake.state().log);
}

#[tokio::test]
async fn tokens_are_fetched_for_the_scopes_that_are_needed_and_renewed_when_they_run_out() {
    let site = Site::new().await;
    let here = site.store("here");
    let root = image(&here);
    site.fake.state().token_uses = Some(4);
    site.client(Some("ann")).push(&root, &site.name(), &here, &Job::silent()).await.unwrap();
    assert!(site.fake.count("GET /token?service=fake&scope=repository%3Aa%3Apull%2Cpush") >= 2, "{:?}", site.fake.state().log);
    let (pulled, _) = site.client(None).pull(&site.name(), &[], &site.store("there"), &Job::silent()).await.unwrap();
    assert_eq!(pulled.digest(), root.digest());
    // what other repositories have is asked for with the right to read it there
    let other: Name = format!("{}/b:1", site.fake.host).parse().unwrap();
    site.fake.state().blobs.clear();
    site.client(None).push(&root, &other, &here, &Job::silent()).await.unwrap();
    assert!(site.fake.count("scope=repository%3Ab%3Apull%2Cpush&scope=repository%3Aa%3Apull") >= 1, "{:?}", site.fake.state().log);
    assert!(site.fake.count("POST /v2/b/blobs/uploads/?mount=sha256%3A") >= 2);
}

#[tokio::test]
async fn a_wrong_password_is_said_and_nothing_is_tried_again() {
    let site = Site::new().await;
    site.fake.state().token_uses = Some(100);
    let error = site.client(Some("wrong")).pull(&site.name(), &[], &site.store("there"), &Job::silent()).await.unwrap_err();
    assert!(error.to_string().ends_with("incorrect username or password (401)"), "{error:#}");
    assert!(hints_of(&error).concat().contains("sealift login"), "{error:#}");
    assert_eq!(site.fake.count("GET /token"), 1);
    let error = site.client(None).login(&site.fake.host, "wrong", &"x".into(), &Job::silent()).await.unwrap_err();
    assert!(error.to_string().contains("as wrong"), "{error:#}");
    site.client(None).login(&site.fake.host, "ann", &"x".into(), &Job::silent()).await.unwrap();
}

#[tokio::test]
async fn identity_tokens_are_exchanged_for_access_tokens_and_again_when_those_run_out() {
    let site = Site::new().await;
    let here = site.store("here");
    let root = image(&here);
    site.fake.state().token_uses = Some(4);
    let file = site.dir.path().join("auth.json");
    for (token, good) in [("identity", true), ("other", false)] {
        let auths = json!({"auths": {&site.fake.host: {"identitytoken": token}}});
        std::fs::write(&file, auths.to_string()).unwrap();
        let pushed = site.client(None).push(&root, &site.name(), &here, &Job::silent()).await;
        assert_eq!(pushed.is_ok(), good, "{token}: {:?}", pushed.err());
    }
    let form = "grant_type=refresh_token&client_id=sealift&refresh_token=identity&scope=repository%3Aa%3Apull%2Cpush&service=fake";
    assert!(site.fake.count(form) >= 2, "{:?}", site.fake.state().log);
}

#[tokio::test]
async fn chunks_that_are_refused_are_made_smaller_or_left_out_and_misplaced_ones_are_asked_about() {
    for (then, said, posts) in [
        (Then::Status(413, "", ""), "PATCH /v2/a/blobs/uploads/", 3),
        (Then::Status(405, "", ""), "PUT /v2/a/blobs/uploads/", 3),
        (Then::Status(501, "", ""), "PUT /v2/a/blobs/uploads/", 3),
        (Then::Keep(2_000_000, 416), "2000000-3145727", 2),
    ] {
        let site = Site::new().await;
        let here = site.store("here");
        let root = image(&here);
        let what = format!("{then:?}");
        site.fault("PATCH", then);
        let pushed = site.push(&here, &root).await.unwrap();
        assert_eq!(pushed.moved_blobs, 2, "{what}");
        assert!(site.fake.state().blobs.contains_key(&Digest::of(&layer()).to_string()), "{what}");
        assert!(site.fake.count(said) >= 1, "{what}: {:?}", site.fake.state().log);
        assert_eq!(site.fake.count("POST"), posts, "{what}: {:?}", site.fake.state().log);
        let small = site.fake.count("1048576-2097151");
        assert_eq!(small, usize::from(what.contains("413")), "{what}: {:?}", site.fake.state().log);
    }
}

/// Puts an index of an image for amd64 and of one for arm64, whose documents are given; the index's descriptor.
fn index(store: &Store, amd64: &Descriptor, arm64: &Descriptor) -> Descriptor {
    let arm = |descriptor: &Descriptor, architecture: &str| {
        json!({"mediaType": descriptor.media_type(), "digest": descriptor.digest(), "size": descriptor.size(),
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [arm(amd64, "amd64"), arm(arm64, "arm64")]});
    let blob = store.put(index.to_string().as_bytes()).unwrap();
    DescriptorBuilder::default().media_type(MediaType::ImageIndex).digest(blob.digest).size(blob.size).build().unwrap()
}

#[tokio::test]
async fn one_platform_can_be_pulled_and_pushed_only_to_where_the_others_are() {
    let site = Site::new().await;
    let here = site.store("here");
    let amd64 = image(&here);
    let arm64 = here.put(br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#).unwrap();
    let arm64 = DescriptorBuilder::default().media_type(MediaType::ImageManifest).digest(arm64.digest).size(arm64.size).build().unwrap();
    let root = index(&here, &amd64, &arm64);
    site.push(&here, &root).await.unwrap();

    let there = site.store("there");
    let platforms = [crate::image::parse_platform("linux/arm64").unwrap()];
    let (pulled, _) = site.client(None).pull(&site.name(), &platforms, &there, &Job::silent()).await.unwrap();
    assert_eq!(pulled.digest(), root.digest());
    assert!(there.has(&Blob::try_from(&arm64).unwrap()) && !there.has(&Blob::of(&layer())), "only the wanted arm comes");

    site.push(&there, &root).await.unwrap();
    site.fake.state().manifests.clear();
    let error = site.push(&there, &root).await.unwrap_err();
    assert!(error.to_string().contains("is here only in part") && error.to_string().contains("linux/amd64 is missing"), "{error:#}");
}

#[tokio::test]
async fn as_many_blobs_as_were_asked_for_move_at_once() {
    for (jobs, expected) in [(1, 1), (3, 3)] {
        let site = Site::new().await;
        let here = site.store("here");
        let root = images_of_layers(&here, 8);
        site.fake.state().slow = true;
        let job = Job::new(std::sync::Arc::new(crate::events::Silent), Default::default(), std::num::NonZeroUsize::new(jobs).unwrap());
        site.client(None).push(&root, &site.name(), &here, &job.as_asked()).await.unwrap();
        assert_eq!(site.fake.state().most_at_once, expected, "-j {jobs}");
    }
}

/// Puts an image of so many small layers.
fn images_of_layers(store: &Store, count: usize) -> Descriptor {
    let describe = |blob: Blob| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": blob.digest, "size": blob.size});
    let layers: Vec<_> = (0..count).map(|number| describe(store.put(format!("layer {number}").as_bytes()).unwrap())).collect();
    let manifest = json!({"schemaVersion": 2, "config": describe(store.put(b"{}").unwrap()), "layers": layers});
    let blob = store.put(manifest.to_string().as_bytes()).unwrap();
    DescriptorBuilder::default().media_type(MediaType::ImageManifest).digest(blob.digest).size(blob.size).build().unwrap()
}

#[tokio::test]
async fn what_may_not_be_mounted_is_sent() {
    let site = Site::new().await;
    let here = site.store("here");
    let root = image(&here);
    site.push(&here, &root).await.unwrap();
    site.fake.state().blobs.clear();
    let other: Name = format!("{}/b:1", site.fake.host).parse().unwrap();
    for _ in 0..2 {
        site.fault("POST /v2/b/blobs/uploads/?mount=", Then::Status(403, "", ""));
    }
    let pushed = site.client(None).push(&root, &other, &here, &Job::silent()).await.unwrap();
    assert_eq!((pushed.moved_blobs, pushed.mounted_blobs), (2, 0));
}

#[tokio::test]
async fn a_token_service_that_refuses_the_scopes_of_other_repositories_is_asked_for_ours_alone() {
    let site = Site::new().await;
    let here = site.store("here");
    let root = image(&here);
    site.push(&here, &root).await.unwrap();
    site.fake.state().token_uses = Some(100);
    site.fake.state().one_scope = true;
    let other: Name = format!("{}/b:1", site.fake.host).parse().unwrap();
    site.client(Some("ann")).push(&root, &other, &here, &Job::silent()).await.unwrap();
    assert!(site.fake.count("GET /token?service=fake&scope=repository%3Ab%3Apull%2Cpush&scope=repository%3Aa%3Apull") >= 1);
}

#[tokio::test]
async fn a_bad_line_is_no_matter_as_long_as_something_comes() {
    let site = Site::new().await;
    let here = site.store("here");
    let root = image(&here);
    // more breaks than tries, each after some bytes more
    for place in 1..=7 {
        site.fault("PATCH", Then::Keep(place * 1000, 502));
    }
    assert_eq!(site.push(&here, &root).await.unwrap().moved_blobs, 2);
}
