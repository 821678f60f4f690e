//! The client against a registry with faults.

use oci_spec::image::{Descriptor, DescriptorBuilder, MediaType};
use serde_json::json;
use std::io::Write as _;

use super::fake_registry::{FakeRegistry, Fault, FaultResponse};
use super::*;
use crate::image::{Blob, Digest};

/// Larger than what goes in one request.
const LAYER: usize = 3 << 20;

struct TestRegistry {
    fake: FakeRegistry,
    dir: tempfile::TempDir,
}

impl TestRegistry {
    async fn new() -> TestRegistry {
        TestRegistry { fake: FakeRegistry::start().await, dir: tempfile::tempdir().unwrap() }
    }

    fn store(&self, name: &str) -> Store {
        Store::open(&self.dir.path().join(name)).unwrap()
    }

    fn name(&self) -> Reference {
        format!("{}/a:1", self.fake.host).parse().unwrap()
    }

    fn client(&self, password: Option<&str>) -> Client {
        let file = self.dir.path().join("auth.json");
        if let Some(password) = password {
            store_credentials(&file, &self.fake.host, password, &"secret".into()).unwrap();
        }
        Client::new(Options { authfiles: vec![file], ..Options::default() }).unwrap()
    }

    fn fault(&self, at: impl Into<String>, fault: FaultResponse) {
        self.fake.state().faults.push(Fault { request: at.into(), response: fault });
    }

    async fn push(&self, store: &Store, root: &Descriptor) -> Result<Summary> {
        self.client(None).push(root, &self.name(), store, &Context::silent()).await
    }

    async fn pull(&self, store: &Store) -> Result<(Descriptor, Summary)> {
        self.client(None).pull(&self.name(), &[], store, &Context::silent()).await
    }
}

fn layer() -> Vec<u8> {
    (0..LAYER as u32 / 4).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// Stores an image of one layer.
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
async fn network_errors_are_retried() {
    for (what, at, fault, request) in [
        ("limited", "GET /v2/a/manifests", FaultResponse::Status(429, "retry-after", "1"), "GET /v2/a/manifests"),
        ("overloaded", "GET /v2/a/blobs", FaultResponse::Status(503, "", ""), "GET /v2/a/blobs"),
        ("broken", "GET /v2/a/manifests", FaultResponse::Status(500, "", ""), "GET /v2/a/manifests"),
        ("corrupted", "GET /v2/a/blobs", FaultResponse::Flip, "GET /v2/a/blobs"),
    ] {
        let registry = TestRegistry::new().await;
        let root = image(&registry.store("here"));
        registry.push(&registry.store("here"), &root).await.unwrap();
        registry.fault(at, fault);
        let began = std::time::Instant::now();
        let (pulled, _) = registry.pull(&registry.store("there")).await.unwrap();
        assert_eq!(pulled.digest(), root.digest(), "{what}");
        let once = if request.contains("manifests") { 1 } else { 2 };
        assert_eq!(registry.fake.count(request), once + 1, "{what}");
        assert!(what != "limited" || began.elapsed().as_millis() >= 1000, "{what}: the wait that was asked for");
    }
}

/// docker-registry reads link files while another push rewrites them.
#[tokio::test]
async fn a_manifest_whose_digest_is_called_invalid_during_another_push_is_put_again() {
    let registry = TestRegistry::new().await;
    let root = image(&registry.store("here"));
    registry.fault("PUT /v2/a/manifests", FaultResponse::DigestInvalid);
    registry.push(&registry.store("here"), &root).await.unwrap();
    assert_eq!(registry.fake.count("PUT /v2/a/manifests"), 2);
}

#[tokio::test]
async fn other_errors_are_not_retried() {
    for (status, kind) in [(403, Kind::Failed), (418, Kind::Failed)] {
        let registry = TestRegistry::new().await;
        let root = image(&registry.store("here"));
        registry.push(&registry.store("here"), &root).await.unwrap();
        registry.fault("GET /v2/a/manifests", FaultResponse::Status(status, "", ""));
        let error = registry.pull(&registry.store("there")).await.unwrap_err();
        assert_eq!(kind_of(&error), kind, "{error:#}");
        assert_eq!(registry.fake.count("GET /v2/a/manifests"), 1, "{status}");
    }
}

#[tokio::test]
async fn a_download_resumes_with_a_range_or_restarts_where_ranges_are_ignored() {
    for (fault, range) in [
        (None, "bytes=1000-3145727"),
        (Some(FaultResponse::WholeInstead), "bytes=1000-3145727"),
        (Some(FaultResponse::Status(416, "", "")), ""),
    ] {
        let registry = TestRegistry::new().await;
        let root = image(&registry.store("here"));
        registry.push(&registry.store("here"), &root).await.unwrap();
        let (there, blob) = (registry.store("there"), Blob::of(&layer()));
        there.ingest(&blob).unwrap().write_all(&layer()[..1000]).unwrap();
        if let Some(fault) = fault {
            registry.fault(format!("GET /v2/a/blobs/{}", blob.digest), fault);
        }
        registry.pull(&there).await.unwrap();
        assert!(there.has(&blob));
        assert!(registry.fake.count(range) >= 1, "{:?}", registry.fake.state().log);
    }
}

#[tokio::test]
async fn an_upload_resumes_where_it_failed() {
    let registry = TestRegistry::new().await;
    let here = registry.store("here");
    let root = image(&here);
    registry.fault("PATCH", FaultResponse::Keep(1_000_000, 502));
    let summary = registry.push(&here, &root).await.unwrap();
    assert_eq!(registry.fake.count("1000000-3145727"), 1, "{:?}", registry.fake.state().log);
    assert!(registry.fake.state().blobs.contains_key(&Digest::of(&layer()).to_string()));
    assert_eq!(summary.moved_blobs, 2);
}

#[tokio::test]
async fn another_process_resumes_an_upload() {
    let registry = TestRegistry::new().await;
    let here = registry.store("here");
    let root = image(&here);
    registry.fault("PATCH", FaultResponse::Keep(2_000_000, 403));
    assert!(registry.push(&here, &root).await.is_err());
    registry.push(&here, &root).await.unwrap();
    assert_eq!(registry.fake.count("2000000-3145727"), 1, "{:?}", registry.fake.state().log);
    assert_eq!(std::fs::read_dir(here.root().join("uploads")).unwrap().count(), 0, "nothing is left to go on with");
}

#[tokio::test]
async fn an_upload_that_the_registry_lost_starts_again() {
    let registry = TestRegistry::new().await;
    let here = registry.store("here");
    let root = image(&here);
    registry.fault("PATCH", FaultResponse::Keep(2_000_000, 403));
    assert!(registry.push(&here, &root).await.is_err());
    registry.fake.state().uploads.clear();
    registry.push(&here, &root).await.unwrap();
    assert_eq!(registry.fake.count("0-3145727"), 2, "{:?}", registry.fake.state().log);
}

#[tokio::test]
async fn tokens_are_fetched_for_the_required_scopes_and_renewed_when_they_expire() {
    let registry = TestRegistry::new().await;
    let here = registry.store("here");
    let root = image(&here);
    registry.fake.state().token_uses = Some(4);
    registry.client(Some("ann")).push(&root, &registry.name(), &here, &Context::silent()).await.unwrap();
    assert!(registry.fake.count("GET /token?service=fake&scope=repository%3Aa%3Apull%2Cpush") >= 2, "{:?}", registry.fake.state().log);
    let (pulled, _) = registry.client(None).pull(&registry.name(), &[], &registry.store("there"), &Context::silent()).await.unwrap();
    assert_eq!(pulled.digest(), root.digest());
    // mounting from another repository needs the scope to read it
    let other: Reference = format!("{}/b:1", registry.fake.host).parse().unwrap();
    registry.fake.state().blobs.clear();
    registry.client(None).push(&root, &other, &here, &Context::silent()).await.unwrap();
    assert!(registry.fake.count("scope=repository%3Ab%3Apull%2Cpush&scope=repository%3Aa%3Apull") >= 1, "{:?}", registry.fake.state().log);
    assert!(registry.fake.count("POST /v2/b/blobs/uploads/?mount=sha256%3A") >= 2);
}

#[tokio::test]
async fn a_wrong_password_is_reported_and_not_retried() {
    let registry = TestRegistry::new().await;
    registry.fake.state().token_uses = Some(100);
    let error = registry.client(Some("wrong")).pull(&registry.name(), &[], &registry.store("there"), &Context::silent()).await.unwrap_err();
    assert!(error.to_string().ends_with("incorrect username or password (401)"), "{error:#}");
    assert!(hints_of(&error).concat().contains("sealift login"), "{error:#}");
    assert_eq!(registry.fake.count("GET /token"), 1);
    let error = registry.client(None).login(&registry.fake.host, "wrong", &"x".into(), &Context::silent()).await.unwrap_err();
    assert!(error.to_string().contains("as wrong"), "{error:#}");
    registry.client(None).login(&registry.fake.host, "ann", &"x".into(), &Context::silent()).await.unwrap();
}

#[tokio::test]
async fn identity_tokens_are_exchanged_for_access_tokens_and_again_when_those_expire() {
    let registry = TestRegistry::new().await;
    let here = registry.store("here");
    let root = image(&here);
    registry.fake.state().token_uses = Some(4);
    let file = registry.dir.path().join("auth.json");
    for (token, good) in [("identity", true), ("other", false)] {
        let auths = json!({"auths": {&registry.fake.host: {"identitytoken": token}}});
        std::fs::write(&file, auths.to_string()).unwrap();
        let pushed = registry.client(None).push(&root, &registry.name(), &here, &Context::silent()).await;
        assert_eq!(pushed.is_ok(), good, "{token}: {:?}", pushed.err());
    }
    let form = "grant_type=refresh_token&client_id=sealift&refresh_token=identity&scope=repository%3Aa%3Apull%2Cpush&service=fake";
    assert!(registry.fake.count(form) >= 2, "{:?}", registry.fake.state().log);
}

#[tokio::test]
async fn refused_chunks_get_smaller_or_are_not_used_and_wrong_offsets_are_looked_up() {
    for (fault, request, posts) in [
        (FaultResponse::Status(413, "", ""), "PATCH /v2/a/blobs/uploads/", 3),
        (FaultResponse::Status(405, "", ""), "PUT /v2/a/blobs/uploads/", 3),
        (FaultResponse::Status(501, "", ""), "PUT /v2/a/blobs/uploads/", 3),
        (FaultResponse::Keep(2_000_000, 416), "2000000-3145727", 2),
    ] {
        let registry = TestRegistry::new().await;
        let here = registry.store("here");
        let root = image(&here);
        let what = format!("{fault:?}");
        registry.fault("PATCH", fault);
        let pushed = registry.push(&here, &root).await.unwrap();
        assert_eq!(pushed.moved_blobs, 2, "{what}");
        assert!(registry.fake.state().blobs.contains_key(&Digest::of(&layer()).to_string()), "{what}");
        assert!(registry.fake.count(request) >= 1, "{what}: {:?}", registry.fake.state().log);
        assert_eq!(registry.fake.count("POST"), posts, "{what}: {:?}", registry.fake.state().log);
        let small = registry.fake.count("1048576-2097151");
        assert_eq!(small, usize::from(what.contains("413")), "{what}: {:?}", registry.fake.state().log);
    }
}

/// Stores an index of two images; returns its descriptor.
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
async fn one_platform_can_be_pulled_and_pushed_only_to_a_registry_with_the_others() {
    let registry = TestRegistry::new().await;
    let here = registry.store("here");
    let amd64 = image(&here);
    let arm64 = here.put(br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#).unwrap();
    let arm64 = DescriptorBuilder::default().media_type(MediaType::ImageManifest).digest(arm64.digest).size(arm64.size).build().unwrap();
    let root = index(&here, &amd64, &arm64);
    registry.push(&here, &root).await.unwrap();

    let there = registry.store("there");
    let platforms = [crate::image::parse_platform("linux/arm64").unwrap()];
    let (pulled, _) = registry.client(None).pull(&registry.name(), &platforms, &there, &Context::silent()).await.unwrap();
    assert_eq!(pulled.digest(), root.digest());
    assert!(there.has(&Blob::try_from(&arm64).unwrap()) && !there.has(&Blob::of(&layer())), "only the requested platform is pulled");

    registry.push(&there, &root).await.unwrap();
    registry.fake.state().manifests.clear();
    let error = registry.push(&there, &root).await.unwrap_err();
    assert!(error.to_string().contains("is incomplete in the store") && error.to_string().contains("linux/amd64 is missing"), "{error:#}");
}

#[tokio::test]
async fn as_many_blobs_as_requested_are_transferred_at_once() {
    for (jobs, expected) in [(1, 1), (3, 3)] {
        let registry = TestRegistry::new().await;
        let here = registry.store("here");
        let root = images_of_layers(&here, 8);
        registry.fake.state().slow = true;
        let ctx = Context::new(std::sync::Arc::new(crate::events::Silent), Default::default(), std::num::NonZeroUsize::new(jobs).unwrap());
        registry.client(None).push(&root, &registry.name(), &here, &ctx.with_fixed_jobs()).await.unwrap();
        assert_eq!(registry.fake.state().max_concurrent, expected, "-j {jobs}");
    }
}

/// Stores an image with `count` small layers.
fn images_of_layers(store: &Store, count: usize) -> Descriptor {
    let describe = |blob: Blob| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": blob.digest, "size": blob.size});
    let layers: Vec<_> = (0..count).map(|number| describe(store.put(format!("layer {number}").as_bytes()).unwrap())).collect();
    let manifest = json!({"schemaVersion": 2, "config": describe(store.put(b"{}").unwrap()), "layers": layers});
    let blob = store.put(manifest.to_string().as_bytes()).unwrap();
    DescriptorBuilder::default().media_type(MediaType::ImageManifest).digest(blob.digest).size(blob.size).build().unwrap()
}

#[tokio::test]
async fn a_blob_that_cannot_be_mounted_is_sent() {
    let registry = TestRegistry::new().await;
    let here = registry.store("here");
    let root = image(&here);
    registry.push(&here, &root).await.unwrap();
    registry.fake.state().blobs.clear();
    let other: Reference = format!("{}/b:1", registry.fake.host).parse().unwrap();
    for _ in 0..2 {
        registry.fault("POST /v2/b/blobs/uploads/?mount=", FaultResponse::Status(403, "", ""));
    }
    let pushed = registry.client(None).push(&root, &other, &here, &Context::silent()).await.unwrap();
    assert_eq!((pushed.moved_blobs, pushed.mounted_blobs), (2, 0));
}

#[tokio::test]
async fn a_refused_list_of_scopes_is_reduced_to_the_required_one() {
    let registry = TestRegistry::new().await;
    let here = registry.store("here");
    let root = image(&here);
    registry.push(&here, &root).await.unwrap();
    registry.fake.state().token_uses = Some(100);
    registry.fake.state().one_scope = true;
    let other: Reference = format!("{}/b:1", registry.fake.host).parse().unwrap();
    registry.client(Some("ann")).push(&root, &other, &here, &Context::silent()).await.unwrap();
    assert!(registry.fake.count("GET /token?service=fake&scope=repository%3Ab%3Apull%2Cpush&scope=repository%3Aa%3Apull") >= 1);
}

#[tokio::test]
async fn a_bad_connection_is_retried_as_long_as_there_is_progress() {
    let registry = TestRegistry::new().await;
    let here = registry.store("here");
    let root = image(&here);
    // more failures than attempts, each after some more bytes
    for place in 1..=7 {
        registry.fault("PATCH", FaultResponse::Keep(place * 1000, 502));
    }
    assert_eq!(registry.push(&here, &root).await.unwrap().moved_blobs, 2);
}

#[tokio::test]
async fn a_download_completes_in_spite_of_any_fault() {
    for (what, faults, again) in [
        ("the first piece breaks", vec![FaultResponse::Half], 1),
        ("a piece breaks twice", vec![FaultResponse::Half, FaultResponse::Half], 2),
        ("another range comes than was asked for", vec![FaultResponse::OtherRange], 1),
        ("all comes instead of a range", vec![FaultResponse::WholeInstead], 0),
        ("the range is refused", vec![FaultResponse::Status(416, "", "")], 1),
        ("all is refused for a moment", vec![FaultResponse::Status(429, "retry-after", "1"), FaultResponse::Status(503, "", "")], 2),
        ("the connection breaks", vec![FaultResponse::HangUp], 1),
        ("ranges are refused, fault ignored", vec![FaultResponse::Status(416, "", ""), FaultResponse::WholeInstead], 1),
    ] {
        let registry = TestRegistry::new().await;
        let root = image(&registry.store("here"));
        registry.push(&registry.store("here"), &root).await.unwrap();
        let (there, blob) = (registry.store("there"), Blob::of(&layer()));
        // a part is here: ranges are asked for
        there.ingest(&blob).unwrap().write_all(&layer()[..1000]).unwrap();
        let at = format!("GET /v2/a/blobs/{}", blob.digest);
        faults.into_iter().for_each(|fault| registry.fault(at.clone(), fault));
        registry.pull(&there).await.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        assert!(there.has(&blob), "{what}");
        assert_eq!(there.read(&blob).unwrap(), layer(), "{what}");
        assert_eq!(registry.fake.count(&at), 1 + again, "{what}: {:?}", registry.fake.state().log);
    }
}

#[tokio::test]
async fn a_registry_that_keeps_failing_is_an_error() {
    let registry = TestRegistry::new().await;
    let root = image(&registry.store("here"));
    registry.push(&registry.store("here"), &root).await.unwrap();
    let at = format!("GET /v2/a/blobs/{}", Digest::of(&layer()));
    registry.fault(at.clone(), FaultResponse::Status(404, "", ""));
    let error = registry.pull(&registry.store("there")).await.unwrap_err();
    assert_eq!((kind_of(&error), registry.fake.count(&at)), (Kind::Failed, 1), "{error:#}");
    assert!(hints_of(&error).concat().contains("push it again"), "{error:#}");
    for _ in 0..2 {
        registry.fault(at.clone(), FaultResponse::Flip);
    }
    let error = registry.pull(&registry.store("there")).await.unwrap_err();
    assert_eq!(kind_of(&error), Kind::Verification, "{error:#}");
    assert!(!registry.store("there").has(&Blob::of(&layer())));
}

#[tokio::test]
async fn a_closed_connection_during_a_chunk_makes_chunks_smaller() {
    let registry = TestRegistry::new().await;
    let here = registry.store("here");
    let root = image(&here);
    registry.fault("PATCH", FaultResponse::HangUp);
    assert_eq!(registry.push(&here, &root).await.unwrap().moved_blobs, 2);
    assert!(registry.fake.state().blobs.contains_key(&Digest::of(&layer()).to_string()));
    let log = registry.fake.state().log.join("\n");
    assert!(log.contains("PATCH") && log.contains("0-1048575") && log.contains("1048576-2097151"), "{log}");
}

#[tokio::test]
async fn an_upload_lost_at_a_later_chunk_starts_again_and_finished_blobs_stay() {
    let registry = TestRegistry::new().await;
    let here = registry.store("here");
    let root = image(&here);
    registry.fault("PATCH", FaultResponse::Status(413, "", ""));
    registry.fault("PATCH", FaultResponse::Keep(1 << 20, 502));
    registry.fault("PATCH", FaultResponse::Status(404, "", ""));
    assert_eq!(registry.push(&here, &root).await.unwrap().moved_blobs, 2);
    assert!(registry.fake.state().blobs.contains_key(&Digest::of(&layer()).to_string()));
    assert_eq!(registry.fake.count("PUT /v2/a/blobs/uploads/"), 2, "each blob is closed once: {:?}", registry.fake.state().log);
}

#[tokio::test]
async fn credentials_are_not_sent_to_another_host() {
    for password in [Some("ann"), None] {
        let (registry, elsewhere) = (TestRegistry::new().await, FakeRegistry::start().await);
        let here = registry.store("here");
        let root = image(&here);
        registry.fake.state().token_uses = Some(1000);
        let client = registry.client(password);
        client.push(&root, &registry.name(), &here, &Context::silent()).await.unwrap();
        // a blob that is kept somewhere else, as in the storage of a cloud
        let blob = Digest::of(&layer()).to_string();
        elsewhere.state().blobs.insert(blob.clone(), layer());
        registry.fault(format!("GET /v2/a/blobs/{blob}"), FaultResponse::At(elsewhere.host.clone()));
        let there = registry.store("there");
        client.pull(&registry.name(), &[], &there, &Context::silent()).await.unwrap();
        assert!(there.has(&Blob::of(&layer())));
        // an upload that goes on somewhere else
        registry.fake.state().blobs.remove(&blob);
        elsewhere.state().blobs.clear();
        registry.fault("POST /v2/a/blobs/uploads/", FaultResponse::At(elsewhere.host.clone()));
        // the fake elsewhere knows no upload: the blob begins anew where it was
        client.push(&root, &registry.name(), &here, &Context::silent()).await.unwrap();
        assert!(elsewhere.count("PATCH") >= 1, "{:?}", elsewhere.state().log);
        assert!(elsewhere.state().authorizations.iter().all(String::is_empty), "{:?}", elsewhere.state().authorizations);
        assert!(registry.fake.state().authorizations.iter().any(|shown| shown.starts_with("Bearer t")));
    }
}

#[tokio::test]
async fn mirrors_that_are_down_lack_the_image_or_fail_are_skipped() {
    let (registry, lacking, breaking, whole) =
        (TestRegistry::new().await, FakeRegistry::start().await, FakeRegistry::start().await, FakeRegistry::start().await);
    let here = registry.store("here");
    let root = image(&here);
    registry.push(&here, &root).await.unwrap();
    {
        let state = registry.fake.state();
        (breaking.state().manifests, whole.state().manifests) = (state.manifests.clone(), state.manifests.clone());
        whole.state().blobs = state.blobs.clone();
    }
    let down = format!("127.0.0.1:{}", std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    let fakes = [&lacking, &breaking, &whole];
    for (mirrors, from_registry) in [
        (vec![&down, &lacking.host], true),
        (vec![&down, &lacking.host, &breaking.host, &whole.host], false),
        (vec![&whole.host, &down], false),
    ] {
        let there = tempfile::tempdir().unwrap();
        let there = Store::open(there.path()).unwrap();
        let named = mirrors.iter().map(|mirror| (registry.fake.host.clone(), (*mirror).clone())).collect();
        let client = Client::new(Options { mirrors: named, ..Options::default() }).unwrap();
        let before = registry.fake.state().log.len();
        let (pulled, _) = client.pull(&registry.name(), &[], &there, &Context::silent()).await.unwrap();
        assert_eq!(pulled.digest(), root.digest(), "{mirrors:?}");
        assert!(there.has(&Blob::of(&layer())), "{mirrors:?}");
        assert_eq!(registry.fake.state().log.len() > before, from_registry, "{mirrors:?}");
    }
    assert!(fakes.iter().all(|fake| fake.count("GET /v2/a/manifests/1") >= 1));
}

#[tokio::test]
async fn a_registry_that_refuses_artifacts_is_told_with_what_to_do_instead() {
    let registry = TestRegistry::new().await;
    let store = registry.store("here");
    let config = store.put(b"{}").unwrap();
    let manifest = |config_type: &str, more: &str| {
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",{more}"config":{{"mediaType":"{config_type}","digest":"{}","size":2}},"layers":[]}}"#,
            config.digest
        );
        let blob = store.put(text.as_bytes()).unwrap();
        DescriptorBuilder::default().media_type(MediaType::ImageManifest).digest(blob.digest).size(blob.size).build().unwrap()
    };
    let artifact = r#""artifactType":"application/vnd.sealift.workloads.v1","#;
    for (root, status, said) in [
        (manifest("application/vnd.oci.empty.v1+json", artifact), 400, true),
        (manifest("application/vnd.oci.empty.v1+json", artifact), 415, true),
        (manifest("application/vnd.oci.empty.v1+json", artifact), 413, false),
        (manifest("application/vnd.oci.image.config.v1+json", ""), 400, false),
    ] {
        registry.fault("PUT /v2/a/manifests", FaultResponse::Status(status, "", ""));
        let error = registry.push(&store, &root).await.unwrap_err();
        let hints = crate::error::hints_of(&error).concat();
        assert_eq!(hints.contains("sealift save"), said, "{status}: {error:#} {hints}");
        assert_eq!(format!("{error:#}").contains("Harbor, Nexus and Quay"), said, "{error:#}");
    }
}
