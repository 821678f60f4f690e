//! The checks of the OCI distribution specification's conformance suite (pull, push, content discovery, management), against our
//! own registry: for anybody, with passwords, and with tokens.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use base64::Engine as _;
use common::images::noise;
use common::sealift::Sealift;
use common::serve::Serve;
use reqwest::{Client, Method, Response, StatusCode};
use sealift::image::Digest;
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const EXAMPLE: &str = "application/vnd.example.conformance.one";
const REPOSITORY: &str = "conformance/one";
const OTHER: &str = "conformance/two";

/// How the suite shows who it is.
#[derive(Clone, Copy, PartialEq)]
enum Login {
    Nobody,
    Password,
    Token,
}

/// A registry under test.
struct Registry {
    base: String,
    http: Client,
    login: Login,
    _serve: Serve,
    _site: Sealift,
}

/// A request to be sent.
struct Ask<'a> {
    method: Method,
    url: String,
    headers: Vec<(&'a str, String)>,
    body: Vec<u8>,
}

impl<'a> Ask<'a> {
    fn header(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }
}

fn basic() -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("ann:secret"))
}

fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

fn head_of(response: &Response, name: &str) -> String {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// A quoted parameter of a challenge.
fn parameter(challenge: &str, name: &str) -> String {
    let rest = challenge.split(&format!("{name}=\"")).nth(1).unwrap_or_else(|| panic!("{name} in {challenge}"));
    rest.split('"').next().unwrap().to_owned()
}

impl Registry {
    fn start(login: Login) -> Registry {
        rustls::crypto::ring::default_provider().install_default().ok();
        let site = Sealift::new();
        site.store();
        let users = site.home().join("htpasswd");
        std::fs::write(&users, format!("ann:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
        let users = users.display().to_string();
        let mut arguments = vec!["--writable", "--allow-delete"];
        match login {
            Login::Nobody => {}
            Login::Password => arguments.extend(["--htpasswd", &users]),
            Login::Token => arguments.extend(["--htpasswd", &users, "--tokens"]),
        }
        let serve = Serve::start(&site, &arguments);
        Registry { base: format!("http://{}", serve.host()), http: Client::new(), login, _serve: serve, _site: site }
    }

    fn ask<'a>(&self, method: &str, path: &str) -> Ask<'a> {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.base) };
        Ask { method: method.parse().unwrap(), url, headers: Vec::new(), body: Vec::new() }
    }

    /// Sends it; with credentials when it is asked for them, as clients do.
    async fn send(&self, ask: Ask<'_>) -> Response {
        let build = |authorization: Option<&str>| {
            // a long body is kept back until it is known to be wanted, as with `Expect: 100-continue`
            let knocks = authorization.is_none() && self.login != Login::Nobody && ask.body.len() > 100_000;
            let body = if knocks { Vec::new() } else { ask.body.clone() };
            let mut request = self.http.request(ask.method.clone(), &ask.url).body(body);
            for (name, value) in &ask.headers {
                request = request.header(*name, value);
            }
            match authorization {
                Some(value) => request.header("authorization", value),
                None => request,
            }
        };
        let first = build(None).send().await.unwrap();
        if self.login == Login::Nobody {
            return first;
        }
        assert_eq!(first.status(), 401, "{} {} without credentials", ask.method, ask.url);
        let challenge = head_of(&first, "www-authenticate");
        let authorization = match self.login {
            Login::Password => {
                assert_eq!(challenge, "Basic realm=\"sealift\"");
                basic()
            }
            _ => format!("Bearer {}", self.token(&challenge).await),
        };
        build(Some(&authorization)).send().await.unwrap()
    }

    async fn token(&self, challenge: &str) -> String {
        assert!(challenge.starts_with("Bearer "), "{challenge}");
        let mut url = reqwest::Url::parse(&parameter(challenge, "realm")).unwrap();
        url.query_pairs_mut().append_pair("service", &parameter(challenge, "service"));
        if challenge.contains("scope=") {
            url.query_pairs_mut().append_pair("scope", &parameter(challenge, "scope"));
        }
        let given = self.http.get(url).header("authorization", basic()).send().await.unwrap();
        let given: Value = serde_json::from_slice(&given.bytes().await.unwrap()).unwrap();
        given["token"].as_str().unwrap().to_owned()
    }

    /// Sends it; the status must be this one.
    async fn expect(&self, status: u16, ask: Ask<'_>) -> Response {
        let what = format!("{} {}", ask.method, ask.url);
        let response = self.send(ask).await;
        let got = response.status();
        assert_eq!(got.as_u16(), status, "{what}: {}", response.text().await.unwrap());
        response
    }

    /// As [`Registry::expect`]; the body must be an error of the specification with this code.
    async fn refused(&self, status: u16, code: &str, ask: Ask<'_>) {
        let what = format!("{} {}", ask.method, ask.url);
        let response = self.expect(status, ask).await;
        let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(body["errors"][0]["code"], code, "{what}: {body}");
        assert!(body["errors"][0]["message"].is_string(), "{what}: {body}");
    }

    fn blob<'a>(&self, method: &str, repository: &str, digest: &str) -> Ask<'a> {
        self.ask(method, &format!("/v2/{repository}/blobs/{digest}"))
    }

    fn manifest<'a>(&self, method: &str, version: &str) -> Ask<'a> {
        self.ask(method, &format!("/v2/{REPOSITORY}/manifests/{version}"))
    }

    async fn begin(&self, repository: &str) -> String {
        let begun = self.expect(202, self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"))).await;
        head_of(&begun, "location")
    }

    async fn push_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let place = self.begin(repository).await;
        self.expect(201, self.ask("PUT", &format!("{place}?digest={digest}")).body(bytes)).await;
        digest
    }

    async fn push_manifest(&self, version: &str, media_type: &str, document: &Value) -> Response {
        let ask = self.manifest("PUT", version).header("content-type", media_type).body(document.to_string().as_bytes());
        let put = self.expect(201, ask).await;
        let digest = digest(document.to_string().as_bytes());
        assert_eq!(head_of(&put, "docker-content-digest"), digest);
        assert_eq!(head_of(&put, "location"), format!("/v2/{REPOSITORY}/manifests/{digest}"));
        put
    }

    /// The blob is there: told of, and given, in full.
    async fn assert_blob(&self, repository: &str, bytes: &[u8]) {
        let digest = digest(bytes);
        for method in ["HEAD", "GET"] {
            let response = self.expect(200, self.blob(method, repository, &digest)).await;
            assert_eq!(head_of(&response, "content-length"), bytes.len().to_string(), "{method}");
            assert_eq!(head_of(&response, "docker-content-digest"), digest, "{method}");
            let body = response.bytes().await.unwrap();
            assert!(if method == "GET" { body == bytes } else { body.is_empty() }, "{method}");
        }
    }

    async fn assert_manifest(&self, version: &str, media_type: &str, document: &Value) {
        let bytes = document.to_string();
        for method in ["HEAD", "GET"] {
            let response = self.expect(200, self.manifest(method, version).header("accept", media_type)).await;
            assert_eq!(head_of(&response, "content-type"), media_type, "{method} {version}");
            assert_eq!(head_of(&response, "content-length"), bytes.len().to_string(), "{method} {version}");
            assert_eq!(head_of(&response, "docker-content-digest"), digest(bytes.as_bytes()), "{method} {version}");
            let body = response.bytes().await.unwrap();
            assert!(if method == "GET" { body == bytes } else { body.is_empty() }, "{method} {version}");
        }
    }

    async fn json(&self, path: &str) -> Value {
        let response = self.expect(200, self.ask("GET", path)).await;
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }

    /// Pushes the blobs of an image of this seed; its manifest.
    async fn image(&self, seed: u64) -> Value {
        let layer = noise(seed, 600);
        let config =
            json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}}).to_string();
        self.push_blob(REPOSITORY, &layer).await;
        self.push_blob(REPOSITORY, config.as_bytes()).await;
        json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(config.as_bytes()), "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(&layer), "size": layer.len()}]})
    }
}

fn descriptor(media_type: &str, document: &Value) -> Value {
    let bytes = document.to_string();
    json!({"mediaType": media_type, "digest": digest(bytes.as_bytes()), "size": bytes.len()})
}

async fn ping(registry: &Registry) {
    let response = registry.expect(200, registry.ask("GET", "/v2/")).await;
    assert_eq!(head_of(&response, "docker-distribution-api-version"), "registry/2.0");
    registry.refused(404, "NAME_UNKNOWN", registry.ask("GET", &format!("/v2/{REPOSITORY}/tags/list"))).await;
    let none = registry.json(&format!("/v2/{REPOSITORY}/referrers/{}", digest(b"nothing"))).await;
    assert_eq!(none["manifests"], json!([]));
}

async fn blobs_are_pushed_by_every_kind_of_upload(registry: &Registry) {
    let uploads = format!("/v2/{REPOSITORY}/blobs/uploads/");
    registry.refused(404, "BLOB_UNKNOWN", registry.blob("GET", REPOSITORY, &digest(b"missing"))).await;
    registry.expect(404, registry.blob("HEAD", REPOSITORY, &digest(b"missing"))).await;
    // POST only
    for bytes in [noise(1, 512), b"".to_vec(), b"{}".to_vec()] {
        let ask = registry.ask("POST", &format!("{uploads}?digest={}", digest(&bytes))).body(&bytes);
        let put = registry.expect(201, ask).await;
        assert_eq!(head_of(&put, "location"), format!("/v2/{REPOSITORY}/blobs/{}", digest(&bytes)));
        registry.assert_blob(REPOSITORY, &bytes).await;
    }
    // POST and PUT
    let bytes = noise(2, 512);
    registry.push_blob(REPOSITORY, &bytes).await;
    registry.assert_blob(REPOSITORY, &bytes).await;
    // streamed: no range is told
    let bytes = noise(3, 512);
    let place = registry.begin(REPOSITORY).await;
    let patched = registry.expect(202, registry.ask("PATCH", &place).body(&bytes)).await;
    assert_eq!(head_of(&patched, "range"), "0-511");
    let place = head_of(&patched, "location");
    registry.expect(201, registry.ask("PUT", &format!("{place}?digest={}", digest(&bytes)))).await;
    registry.assert_blob(REPOSITORY, &bytes).await;
    // cancelled
    let place = registry.begin(REPOSITORY).await;
    registry.expect(204, registry.ask("DELETE", &place)).await;
    registry.refused(404, "BLOB_UPLOAD_UNKNOWN", registry.ask("GET", &place)).await;
    registry.refused(404, "BLOB_UPLOAD_UNKNOWN", registry.ask("PATCH", &place).body(b"x")).await;
    // nobody knows it, or without a digest
    registry.refused(404, "BLOB_UPLOAD_UNKNOWN", registry.ask("PUT", &format!("{uploads}{}?digest={}", "0".repeat(32), digest(b"")))).await;
    let place = registry.begin(REPOSITORY).await;
    registry.refused(400, "DIGEST_INVALID", registry.ask("PUT", &place).body(b"x")).await;
}

async fn chunks_out_of_order_are_refused(registry: &Registry) {
    for (seed, out_of_order, last_in_put) in [(10, false, false), (11, false, true), (12, true, false), (13, true, true)] {
        let bytes = noise(seed, 3 * 1024 - 5);
        let chunks: Vec<&[u8]> = bytes.chunks(1024).collect();
        let mut place = registry.begin(REPOSITORY).await;
        let range = |number: usize| format!("{}-{}", number * 1024, number * 1024 + chunks[number].len() - 1);
        for (number, chunk) in chunks.iter().enumerate() {
            let last = number + 1 == chunks.len();
            if out_of_order {
                let wrong = if last { 0 } else { number + 1 };
                let ask = registry.ask("PATCH", &place).header("content-range", range(wrong)).body(chunks[wrong]);
                let refused = registry.expect(416, ask).await;
                let told = registry.expect(204, registry.ask("GET", &head_of(&refused, "location"))).await;
                assert_eq!(head_of(&told, "range"), format!("0-{}", (number * 1024).saturating_sub(1)));
                place = head_of(&told, "location");
            }
            if last && last_in_put {
                let url = format!("{place}?digest={}", digest(&bytes));
                registry.expect(201, registry.ask("PUT", &url).header("content-range", range(number)).body(chunk)).await;
            } else {
                let ask = registry.ask("PATCH", &place).header("content-range", range(number)).body(chunk);
                let patched = registry.expect(202, ask).await;
                assert_eq!(head_of(&patched, "range"), format!("0-{}", number * 1024 + chunk.len() - 1));
                place = head_of(&patched, "location");
            }
        }
        if !last_in_put {
            let put = registry.expect(201, registry.ask("PUT", &format!("{place}?digest={}", digest(&bytes)))).await;
            assert_eq!(head_of(&put, "docker-content-digest"), digest(&bytes));
        }
        registry.assert_blob(REPOSITORY, &bytes).await;
    }
}

async fn wrong_digests_are_refused(registry: &Registry) {
    let (bytes, wrong) = (noise(20, 900), digest(&noise(21, 900)));
    let uploads = format!("/v2/{REPOSITORY}/blobs/uploads/");
    registry.refused(400, "DIGEST_INVALID", registry.ask("POST", &format!("{uploads}?digest={wrong}")).body(&bytes)).await;
    registry.refused(400, "DIGEST_INVALID", registry.ask("POST", &format!("{uploads}?digest=sha256:12")).body(&bytes)).await;
    let place = registry.begin(REPOSITORY).await;
    registry.refused(400, "DIGEST_INVALID", registry.ask("PUT", &format!("{place}?digest={wrong}")).body(&bytes)).await;
    let place = registry.begin(REPOSITORY).await;
    registry.expect(202, registry.ask("PATCH", &place).header("content-range", "0-899").body(&bytes)).await;
    registry.refused(400, "DIGEST_INVALID", registry.ask("PUT", &format!("{place}?digest={wrong}"))).await;
    registry.expect(404, registry.blob("HEAD", REPOSITORY, &wrong)).await;
    registry.expect(404, registry.blob("HEAD", REPOSITORY, &digest(&bytes))).await;
    registry.refused(400, "DIGEST_INVALID", registry.blob("GET", REPOSITORY, "sha256:12")).await;
}

async fn blobs_are_mounted(registry: &Registry) {
    for (seed, from) in [(30, format!("&from={OTHER}")), (31, String::new())] {
        let bytes = noise(seed, 512);
        registry.push_blob(OTHER, &bytes).await;
        let url = format!("/v2/{REPOSITORY}/blobs/uploads/?mount={}{from}", digest(&bytes));
        let mounted = registry.expect(201, registry.ask("POST", &url)).await;
        assert_eq!(head_of(&mounted, "location"), format!("/v2/{REPOSITORY}/blobs/{}", digest(&bytes)));
        registry.assert_blob(REPOSITORY, &bytes).await;
    }
    let bytes = noise(32, 512);
    let url = format!("/v2/{REPOSITORY}/blobs/uploads/?mount={}&from={OTHER}", digest(&bytes));
    let begun = registry.expect(202, registry.ask("POST", &url)).await;
    let place = head_of(&begun, "location");
    registry.expect(201, registry.ask("PUT", &format!("{place}?digest={}", digest(&bytes))).body(&bytes)).await;
    registry.assert_blob(REPOSITORY, &bytes).await;
}

async fn ranges_of_blobs_are_served(registry: &Registry) {
    let bytes = noise(40, 2048);
    let digest = registry.push_blob(REPOSITORY, &bytes).await;
    for (range, expected) in [
        ("bytes=500-1499", Some(500..1500)),
        ("bytes=500-", Some(500..2048)),
        ("bytes=-500", Some(1548..2048)),
        ("bytes=2000-5000", Some(2000..2048)),
        ("bytes=500-0", None),
        ("bytes=5000-10000", None),
    ] {
        let ask = registry.blob("GET", REPOSITORY, &digest).header("range", range);
        let Some(part) = expected else {
            registry.expect(416, ask).await;
            continue;
        };
        let response = registry.expect(206, ask).await;
        assert_eq!(head_of(&response, "content-length"), part.len().to_string(), "{range}");
        assert_eq!(head_of(&response, "content-range"), format!("bytes {}-{}/2048", part.start, part.end - 1), "{range}");
        assert!(response.bytes().await.unwrap() == bytes[part], "{range}");
    }
}

async fn manifests_of_every_kind_are_pushed_and_pulled(registry: &Registry) {
    let first = registry.image(50).await;
    let second = registry.image(51).await;
    let index = |manifests: &[&Value]| {
        let manifests: Vec<Value> = manifests.iter().map(|one| descriptor(one["mediaType"].as_str().unwrap(), one)).collect();
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
    };
    let both = index(&[&first, &second]);
    let mut large = first.clone();
    large["annotations"] =
        (0..390).map(|number| (format!("large-{number}"), Value::from("A".repeat(10_000)))).collect::<serde_json::Map<_, Value>>().into();
    let mut urls = first.clone();
    urls["layers"].as_array_mut().unwrap().push(json!({"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "digest": digest(b"elsewhere"), "size": 123, "urls": ["https://store.example.com/x"]}));
    let mut extra = first.clone();
    extra["org.example.custom"] = json!("kept");
    extra["config"]["data"] = json!("e30=");
    let mut no_layers = first.clone();
    no_layers["layers"] = json!([]);
    let artifact = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": EXAMPLE,
        "config": {"mediaType": EMPTY, "digest": digest(b"{}"), "size": 2}, "layers": [{"mediaType": EMPTY, "digest": digest(b"{}"), "size": 2}]});
    let sparse = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(MANIFEST, &first),
        {"mediaType": MANIFEST, "digest": digest(b"nobody has it"), "size": 13, "platform": {"os": "linux", "architecture": "arm64"}}]});
    let docker = json!({"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": first["config"], "layers": first["layers"]});
    for (tag, document) in [
        ("image", &first),
        ("second", &second),
        ("index", &both),
        ("nested-index", &index(&[&both])),
        ("empty-index", &index(&[])),
        ("artifact", &artifact),
        ("large-manifest", &large),
        ("non-distributable", &urls),
        ("custom-fields", &extra),
        ("no-layers", &no_layers),
        ("sparse-index", &sparse),
        ("docker", &docker),
    ] {
        let media_type = document["mediaType"].as_str().unwrap();
        let by_digest = digest(document.to_string().as_bytes());
        registry.push_manifest(&by_digest, media_type, document).await;
        registry.push_manifest(tag, media_type, document).await;
        registry.assert_manifest(tag, media_type, document).await;
        registry.assert_manifest(&by_digest, media_type, document).await;
    }
    let url = format!("/v2/{REPOSITORY}/manifests/{}?tag=by-query-1&tag=by-query-2", digest(first.to_string().as_bytes()));
    let put = registry.expect(201, registry.ask("PUT", &url).header("content-type", MANIFEST).body(first.to_string().as_bytes())).await;
    assert_eq!(head_of(&put, "oci-tag"), "by-query-1, by-query-2");
    registry.assert_manifest("by-query-2", MANIFEST, &first).await;
}

async fn bad_manifests_are_refused(registry: &Registry) {
    let image = registry.image(60).await;
    let put = |version: &str, body: &str| registry.manifest("PUT", version).header("content-type", MANIFEST).body(body.as_bytes());
    let mut missing = image.clone();
    missing["layers"][0]["digest"] = json!(digest(b"nobody has it"));
    let mut old = image.clone();
    old["schemaVersion"] = json!(1);
    let good = image.to_string();
    for (status, code, ask) in [
        (404, "MANIFEST_UNKNOWN", registry.manifest("GET", "no-such-tag")),
        (404, "MANIFEST_UNKNOWN", registry.manifest("GET", &digest(b"nothing"))),
        (400, "DIGEST_INVALID", registry.manifest("GET", "sha256:baddigeststring")),
        (400, "DIGEST_INVALID", put("sha256:baddigeststring", &good)),
        (400, "DIGEST_INVALID", put(&digest(good.as_bytes()), &format!("{good}  "))),
        (404, "MANIFEST_BLOB_UNKNOWN", put("bad", &missing.to_string())),
        (400, "MANIFEST_INVALID", put("bad", &old.to_string())),
        (400, "MANIFEST_INVALID", put("bad", "{}")),
        (400, "MANIFEST_INVALID", put("bad", "not JSON")),
        (400, "MANIFEST_INVALID", registry.manifest("PUT", "bad").header("content-type", INDEX).body(good.as_bytes())),
        (400, "NAME_INVALID", put("-not-a-tag-", &good)),
        (400, "NAME_INVALID", registry.ask("PUT", "/v2/UPPER/manifests/1").header("content-type", MANIFEST).body(good.as_bytes())),
    ] {
        registry.refused(status, code, ask).await;
    }
    let huge = vec![b' '; (4 << 20) + 1];
    let response = registry.send(registry.manifest("PUT", "bad").header("content-type", MANIFEST).body(&huge)).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    registry.expect(404, registry.manifest("HEAD", "bad")).await;
}

async fn tags_are_listed_by_pages(registry: &Registry) {
    let image = registry.image(70).await;
    for tag in ["test0", "test1", "test2", "test3"] {
        registry.push_manifest(tag, MANIFEST, &image).await;
    }
    let list = format!("/v2/{REPOSITORY}/tags/list");
    let all = registry.json(&list).await;
    let tags = |document: &Value| -> Vec<String> { serde_json::from_value(document["tags"].clone()).unwrap() };
    let all_tags = tags(&all);
    assert_eq!(all["name"], REPOSITORY);
    assert!(all_tags.len() >= 4 && all_tags.contains(&"test2".to_owned()), "{all}");
    // page by page, following the links
    let (mut next, mut found, mut pages) = (format!("{list}?n=3"), Vec::new(), 0);
    loop {
        let response = registry.expect(200, registry.ask("GET", &next)).await;
        let link = head_of(&response, "link");
        let page: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert!(tags(&page).len() <= 3, "{page}");
        found.extend(tags(&page));
        pages += 1;
        match link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")) {
            Some(link) => next = link.to_owned(),
            None => break,
        }
    }
    assert_eq!((found, pages), (all_tags.clone(), all_tags.len().div_ceil(3)));
    let last = &all_tags[all_tags.len() / 2 - 1];
    assert_eq!(tags(&registry.json(&format!("{list}?last={last}")).await), all_tags[all_tags.len() / 2..]);
    assert_eq!(registry.json(&format!("{list}?n=0")).await["tags"], json!([]));
}

async fn referrers_are_listed(registry: &Registry) {
    let subject = registry.image(80).await;
    let content = registry.push_blob(REPOSITORY, &noise(81, 300)).await;
    let nowhere = descriptor(MANIFEST, &json!({"this": "was never pushed"}));
    let empty = json!({"mediaType": EMPTY, "digest": digest(b"{}"), "size": 2});
    let layer = |media_type: &str| json!([{"mediaType": media_type, "digest": content, "size": 300}]);
    let about =
        |subject: &Value, note: &str| json!({"schemaVersion": 2, "mediaType": MANIFEST, "subject": subject, "annotations": {"note": note}});
    let with = |mut document: Value, more: Value| {
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        document
    };
    let described = descriptor(MANIFEST, &subject);
    let by_config = with(
        about(&described, "config"),
        json!({"config": {"mediaType": EXAMPLE, "digest": digest(b"{}"), "size": 2}, "layers": layer("text/plain")}),
    );
    let by_type = with(about(&described, "type"), json!({"artifactType": EXAMPLE, "config": empty, "layers": layer("text/plain")}));
    let other = with(about(&described, "other"), json!({"artifactType": "text/x-other", "config": empty, "layers": layer("text/plain")}));
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "artifactType": EXAMPLE, "manifests": [], "subject": described, "annotations": {"note": "index"}});
    let orphan = with(about(&nowhere, "orphan"), json!({"artifactType": EXAMPLE, "config": empty, "layers": layer("text/plain")}));
    let push = async |document: &Value, subject: &Value| {
        let media_type = document["mediaType"].as_str().unwrap();
        let put = registry.push_manifest(&digest(document.to_string().as_bytes()), media_type, document).await;
        assert_eq!(head_of(&put, "oci-subject"), subject["digest"].as_str().unwrap());
    };
    // before and after what they refer to
    push(&by_config, &described).await;
    push(&by_type, &described).await;
    registry.push_manifest("subject", MANIFEST, &subject).await;
    push(&other, &described).await;
    push(&index, &described).await;
    push(&orphan, &nowhere).await;
    // a tag of its own lists nothing twice
    registry.push_manifest("tagged-referrer", MANIFEST, &by_type).await;

    let list = |subject: &Value| format!("/v2/{REPOSITORY}/referrers/{}", subject["digest"].as_str().unwrap());
    let notes = |document: &Value| {
        let mut notes: Vec<String> =
            document["manifests"].as_array().unwrap().iter().map(|one| one["annotations"]["note"].as_str().unwrap().to_owned()).collect();
        notes.sort();
        notes.join(" ")
    };
    let response = registry.expect(200, registry.ask("GET", &list(&described))).await;
    assert_eq!(head_of(&response, "content-type"), INDEX);
    assert_eq!(head_of(&response, "oci-filters-applied"), "");
    let all: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(notes(&all), "config index other type");
    let listed = all["manifests"].as_array().unwrap().iter().find(|one| one["annotations"]["note"] == "config").unwrap();
    let expected = with(descriptor(MANIFEST, &by_config), json!({"artifactType": EXAMPLE, "annotations": {"note": "config"}}));
    assert_eq!(listed, &expected);
    assert_eq!(notes(&registry.json(&list(&nowhere)).await), "orphan");
    for (wanted, expected) in [(EXAMPLE, "config index type"), ("text/x-other", "other"), ("text/x-none", "")] {
        let response = registry.expect(200, registry.ask("GET", &format!("{}?artifactType={wanted}", list(&described)))).await;
        assert_eq!(head_of(&response, "oci-filters-applied"), "artifactType");
        let filtered: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(notes(&filtered), expected, "{wanted}");
    }
    registry.refused(400, "DIGEST_INVALID", registry.ask("GET", &format!("/v2/{REPOSITORY}/referrers/sha256:12"))).await;
}

async fn deleted_content_is_gone_and_used_content_is_not_deleted(registry: &Registry) {
    let image = registry.image(90).await;
    let (by_digest, layer) = (digest(image.to_string().as_bytes()), image["layers"][0]["digest"].as_str().unwrap().to_owned());
    for version in ["to-delete", "to-delete-2", &by_digest] {
        registry.push_manifest(version, MANIFEST, &image).await;
    }
    registry.refused(405, "UNSUPPORTED", registry.blob("DELETE", REPOSITORY, &layer)).await;
    registry.expect(202, registry.manifest("DELETE", "to-delete")).await;
    registry.expect(404, registry.manifest("HEAD", "to-delete")).await;
    registry.refused(404, "MANIFEST_UNKNOWN", registry.manifest("DELETE", "to-delete")).await;
    registry.assert_manifest("to-delete-2", MANIFEST, &image).await;
    registry.expect(202, registry.manifest("DELETE", &by_digest)).await;
    registry.expect(404, registry.manifest("HEAD", "to-delete-2")).await;
    registry.refused(404, "MANIFEST_UNKNOWN", registry.manifest("DELETE", &by_digest)).await;
    registry.expect(404, registry.manifest("HEAD", &by_digest)).await;
    registry.expect(202, registry.blob("DELETE", REPOSITORY, &layer)).await;
    registry.expect(404, registry.blob("HEAD", REPOSITORY, &layer)).await;
    registry.refused(404, "BLOB_UNKNOWN", registry.blob("DELETE", REPOSITORY, &layer)).await;
}

async fn suite(login: Login) {
    let registry = Registry::start(login);
    ping(&registry).await;
    blobs_are_pushed_by_every_kind_of_upload(&registry).await;
    chunks_out_of_order_are_refused(&registry).await;
    wrong_digests_are_refused(&registry).await;
    blobs_are_mounted(&registry).await;
    ranges_of_blobs_are_served(&registry).await;
    manifests_of_every_kind_are_pushed_and_pulled(&registry).await;
    bad_manifests_are_refused(&registry).await;
    tags_are_listed_by_pages(&registry).await;
    referrers_are_listed(&registry).await;
    deleted_content_is_gone_and_used_content_is_not_deleted(&registry).await;
}

#[tokio::test]
async fn the_registry_conforms_without_login() {
    suite(Login::Nobody).await;
}

#[tokio::test]
async fn the_registry_conforms_with_passwords() {
    suite(Login::Password).await;
}

#[tokio::test]
async fn the_registry_conforms_with_tokens() {
    suite(Login::Token).await;
    let registry = Registry::start(Login::Token);
    let token = format!("{}/token?scope=repository:{REPOSITORY}:pull,push", registry.base);
    let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
    assert_eq!(status(registry.http.get(&token).header("authorization", basic())).await, 200);
    assert_eq!(status(registry.http.get(&token).header("authorization", "Basic YW5uOndyb25n")).await, 401);
    assert_eq!(status(registry.http.get(&token)).await, 401, "nothing is given to nobody");
    assert_eq!(status(registry.http.post(&token).header("authorization", basic())).await, 405, "OAuth2 is not spoken");
}
