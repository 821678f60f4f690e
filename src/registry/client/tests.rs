//! The client against a registry that misbehaves.

use oci_spec::image::{Descriptor, DescriptorBuilder, MediaType};
use serde_json::json;
use std::io::Write as _;

use super::fake_registry::{FakeRegistry, Fault, Then};
use super::*;
use crate::image::{Blob, Digest};

/// Larger than what goes in one request.
const LAYER: usize = 3 << 20;

struct Site {
    fake: FakeRegistry,
    dir: tempfile::TempDir,
}

impl Site {
    async fn new() -> Site {
        Site { fake: FakeRegistry::start().await, dir: tempfile::tempdir().unwrap() }
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
            keep(&file, &self.fake.host, password, &"secret".into()).unwrap();
        }
        Client::new(Options { authfiles: vec![file], ..Options::default() }).unwrap()
    }

    fn fault(&self, at: impl Into<String>, then: Then) {
        self.fake.state().faults.push(Fault { at: at.into(), then });
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
    site.client(Some("ann")).push(&root, &site.name(), &here, &Context::silent()).await.unwrap();
    assert!(site.fake.count("GET /token?service=fake&scope=repository%3Aa%3Apull%2Cpush") >= 2, "{:?}", site.fake.state().log);
    let (pulled, _) = site.client(None).pull(&site.name(), &[], &site.store("there"), &Context::silent()).await.unwrap();
    assert_eq!(pulled.digest(), root.digest());
    // what other repositories have is asked for with the right to read it there
    let other: Reference = format!("{}/b:1", site.fake.host).parse().unwrap();
    site.fake.state().blobs.clear();
    site.client(None).push(&root, &other, &here, &Context::silent()).await.unwrap();
    assert!(site.fake.count("scope=repository%3Ab%3Apull%2Cpush&scope=repository%3Aa%3Apull") >= 1, "{:?}", site.fake.state().log);
    assert!(site.fake.count("POST /v2/b/blobs/uploads/?mount=sha256%3A") >= 2);
}

#[tokio::test]
async fn a_wrong_password_is_said_and_nothing_is_tried_again() {
    let site = Site::new().await;
    site.fake.state().token_uses = Some(100);
    let error = site.client(Some("wrong")).pull(&site.name(), &[], &site.store("there"), &Context::silent()).await.unwrap_err();
    assert!(error.to_string().ends_with("incorrect username or password (401)"), "{error:#}");
    assert!(hints_of(&error).concat().contains("sealift login"), "{error:#}");
    assert_eq!(site.fake.count("GET /token"), 1);
    let error = site.client(None).login(&site.fake.host, "wrong", &"x".into(), &Context::silent()).await.unwrap_err();
    assert!(error.to_string().contains("as wrong"), "{error:#}");
    site.client(None).login(&site.fake.host, "ann", &"x".into(), &Context::silent()).await.unwrap();
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
        let pushed = site.client(None).push(&root, &site.name(), &here, &Context::silent()).await;
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
    let (pulled, _) = site.client(None).pull(&site.name(), &platforms, &there, &Context::silent()).await.unwrap();
    assert_eq!(pulled.digest(), root.digest());
    assert!(there.has(&Blob::try_from(&arm64).unwrap()) && !there.has(&Blob::of(&layer())), "only the wanted arm comes");

    site.push(&there, &root).await.unwrap();
    site.fake.state().manifests.clear();
    let error = site.push(&there, &root).await.unwrap_err();
    assert!(error.to_string().contains("is incomplete in the store") && error.to_string().contains("linux/amd64 is missing"), "{error:#}");
}

#[tokio::test]
async fn as_many_blobs_as_were_asked_for_move_at_once() {
    for (jobs, expected) in [(1, 1), (3, 3)] {
        let site = Site::new().await;
        let here = site.store("here");
        let root = images_of_layers(&here, 8);
        site.fake.state().slow = true;
        let ctx = Context::new(std::sync::Arc::new(crate::events::Silent), Default::default(), std::num::NonZeroUsize::new(jobs).unwrap());
        site.client(None).push(&root, &site.name(), &here, &ctx.as_asked()).await.unwrap();
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
    let other: Reference = format!("{}/b:1", site.fake.host).parse().unwrap();
    for _ in 0..2 {
        site.fault("POST /v2/b/blobs/uploads/?mount=", Then::Status(403, "", ""));
    }
    let pushed = site.client(None).push(&root, &other, &here, &Context::silent()).await.unwrap();
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
    let other: Reference = format!("{}/b:1", site.fake.host).parse().unwrap();
    site.client(Some("ann")).push(&root, &other, &here, &Context::silent()).await.unwrap();
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

#[tokio::test]
async fn a_download_comes_whole_through_whatever_a_registry_does_to_it() {
    for (what, faults, again) in [
        ("the first piece breaks", vec![Then::Half], 1),
        ("a piece breaks twice", vec![Then::Half, Then::Half], 2),
        ("another range comes than was asked for", vec![Then::OtherRange], 1),
        ("all comes instead of a range", vec![Then::WholeInstead], 0),
        ("the range is refused", vec![Then::Status(416, "", "")], 1),
        ("all is refused for a moment", vec![Then::Status(429, "retry-after", "1"), Then::Status(503, "", "")], 2),
        ("the connection breaks", vec![Then::HangUp], 1),
        ("ranges are refused, then ignored", vec![Then::Status(416, "", ""), Then::WholeInstead], 1),
    ] {
        let site = Site::new().await;
        let root = image(&site.store("here"));
        site.push(&site.store("here"), &root).await.unwrap();
        let (there, blob) = (site.store("there"), Blob::of(&layer()));
        // a part is here: ranges are asked for
        there.ingest(&blob).unwrap().write_all(&layer()[..1000]).unwrap();
        let at = format!("GET /v2/a/blobs/{}", blob.digest);
        faults.into_iter().for_each(|then| site.fault(at.clone(), then));
        site.pull(&there).await.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        assert!(there.has(&blob), "{what}");
        assert_eq!(there.read(&blob).unwrap(), layer(), "{what}");
        assert_eq!(site.fake.count(&at), 1 + again, "{what}: {:?}", site.fake.state().log);
    }
}

#[tokio::test]
async fn a_registry_that_never_gives_what_was_asked_for_is_given_up() {
    let site = Site::new().await;
    let root = image(&site.store("here"));
    site.push(&site.store("here"), &root).await.unwrap();
    let at = format!("GET /v2/a/blobs/{}", Digest::of(&layer()));
    site.fault(at.clone(), Then::Status(404, "", ""));
    let error = site.pull(&site.store("there")).await.unwrap_err();
    assert_eq!((kind_of(&error), site.fake.count(&at)), (Kind::Failed, 1), "{error:#}");
    assert!(hints_of(&error).concat().contains("push it again"), "{error:#}");
    for _ in 0..2 {
        site.fault(at.clone(), Then::Flip);
    }
    let error = site.pull(&site.store("there")).await.unwrap_err();
    assert_eq!(kind_of(&error), Kind::Verification, "{error:#}");
    assert!(!site.store("there").has(&Blob::of(&layer())));
}

#[tokio::test]
async fn a_chunk_after_which_the_registry_hangs_up_is_followed_by_smaller_ones() {
    let site = Site::new().await;
    let here = site.store("here");
    let root = image(&here);
    site.fault("PATCH", Then::HangUp);
    assert_eq!(site.push(&here, &root).await.unwrap().moved_blobs, 2);
    assert!(site.fake.state().blobs.contains_key(&Digest::of(&layer()).to_string()));
    let log = site.fake.state().log.join("\n");
    assert!(log.contains("PATCH") && log.contains("0-1048575") && log.contains("1048576-2097151"), "{log}");
}

#[tokio::test]
async fn an_upload_that_is_gone_at_a_later_chunk_begins_anew_and_finished_blobs_stay() {
    let site = Site::new().await;
    let here = site.store("here");
    let root = image(&here);
    site.fault("PATCH", Then::Status(413, "", ""));
    site.fault("PATCH", Then::Keep(1 << 20, 502));
    site.fault("PATCH", Then::Status(404, "", ""));
    assert_eq!(site.push(&here, &root).await.unwrap().moved_blobs, 2);
    assert!(site.fake.state().blobs.contains_key(&Digest::of(&layer()).to_string()));
    assert_eq!(site.fake.count("PUT /v2/a/blobs/uploads/"), 2, "each blob is closed once: {:?}", site.fake.state().log);
}

#[tokio::test]
async fn credentials_do_not_follow_to_another_host() {
    for password in [Some("ann"), None] {
        let (site, elsewhere) = (Site::new().await, FakeRegistry::start().await);
        let here = site.store("here");
        let root = image(&here);
        site.fake.state().token_uses = Some(1000);
        let client = site.client(password);
        client.push(&root, &site.name(), &here, &Context::silent()).await.unwrap();
        // a blob that is kept somewhere else, as in the storage of a cloud
        let blob = Digest::of(&layer()).to_string();
        elsewhere.state().blobs.insert(blob.clone(), layer());
        site.fault(format!("GET /v2/a/blobs/{blob}"), Then::At(elsewhere.host.clone()));
        let there = site.store("there");
        client.pull(&site.name(), &[], &there, &Context::silent()).await.unwrap();
        assert!(there.has(&Blob::of(&layer())));
        // an upload that goes on somewhere else
        site.fake.state().blobs.remove(&blob);
        elsewhere.state().blobs.clear();
        site.fault("POST /v2/a/blobs/uploads/", Then::At(elsewhere.host.clone()));
        // the fake elsewhere knows no upload: the blob begins anew where it was
        client.push(&root, &site.name(), &here, &Context::silent()).await.unwrap();
        assert!(elsewhere.count("PATCH") >= 1, "{:?}", elsewhere.state().log);
        assert!(elsewhere.state().shown.iter().all(String::is_empty), "{:?}", elsewhere.state().shown);
        assert!(site.fake.state().shown.iter().any(|shown| shown.starts_with("Bearer t")));
    }
}

#[tokio::test]
async fn mirrors_that_are_down_lack_the_image_or_break_are_passed_over() {
    let (site, lacking, breaking, whole) =
        (Site::new().await, FakeRegistry::start().await, FakeRegistry::start().await, FakeRegistry::start().await);
    let here = site.store("here");
    let root = image(&here);
    site.push(&here, &root).await.unwrap();
    {
        let state = site.fake.state();
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
        let named = mirrors.iter().map(|mirror| (site.fake.host.clone(), (*mirror).clone())).collect();
        let client = Client::new(Options { mirrors: named, ..Options::default() }).unwrap();
        let before = site.fake.state().log.len();
        let (pulled, _) = client.pull(&site.name(), &[], &there, &Context::silent()).await.unwrap();
        assert_eq!(pulled.digest(), root.digest(), "{mirrors:?}");
        assert!(there.has(&Blob::of(&layer())), "{mirrors:?}");
        assert_eq!(site.fake.state().log.len() > before, from_registry, "{mirrors:?}");
    }
    assert!(fakes.iter().all(|fake| fake.count("GET /v2/a/manifests/1") >= 1));
}
