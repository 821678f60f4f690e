//! Images are signed as cosign signs them, and the signatures go where the images go.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use base64::Engine as _;
use common::images::cluster_image;
use common::registry::DockerRegistry;
use common::run;
use common::sealift::{Sealift, assert_says};
use common::trust::{keys, sign};

/// Holds a signature manifest's layer against a public key with openssl.
fn openssl_verifies(who: &Sealift, manifest: &serde_json::Value, payload: &[u8], public: &str) {
    let signature = manifest["layers"][0]["annotations"]["dev.cosignproject.cosign/signature"].as_str().unwrap();
    let (signed, signature_file) = (who.home().join("payload"), who.home().join("signature"));
    std::fs::write(&signed, payload).unwrap();
    std::fs::write(&signature_file, base64::engine::general_purpose::STANDARD.decode(signature).unwrap()).unwrap();
    let [signed, signature_file] = [signed, signature_file].map(|path| path.display().to_string());
    assert_says(&run("openssl", &["dgst", "-sha256", "-verify", public, "-signature", &signature_file, &signed]), &["Verified OK"]);
}

#[test]
fn signatures_travel_through_registries_and_openssl_and_skopeo_read_them() {
    let registry = DockerRegistry::start();
    let (here, there, archive) = (Sealift::new(), Sealift::new(), Sealift::new());
    let name = registry.name("team/shop:1");
    let image = cluster_image(&here.store(), &name, 71, &[1000], &["web:1"]);
    let (key, public) = keys(&here, "own");
    let (_, other) = keys(&here, "other");
    assert_says(&here.fails(6, &["verify", &name, "--key", &public]), &["is not signed"]);
    sign(&here, &name, &key, &["-a", "env=prod"]);
    assert_says(&here.ok(&["verify", &name, "--key", &public, "-a", "env=prod"]), &["is signed by"]);
    assert_says(&here.fails(6, &["verify", &name, "--key", &other]), &["no valid signature", "another key"]);

    here.ok(&["push", &name]);
    let hex = image.digest().to_string().replace("sha256:", "");
    let tag = format!("docker://{}", registry.name(&format!("team/shop:sha256-{hex}.sig")));
    let manifest: serde_json::Value = serde_json::from_str(&run("skopeo", &["inspect", "--raw", "--tls-verify=false", &tag])).unwrap();
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.dev.cosign.simplesigning.v1+json");
    let payload = here.store_root().join("blobs/sha256").join(manifest["layers"][0]["digest"].as_str().unwrap().replace("sha256:", ""));
    openssl_verifies(&here, &manifest, &std::fs::read(payload).unwrap(), &public);

    // without a store, by pull, and by an archive
    assert_says(&there.ok(&["verify", &name, "--key", &public]), &["is signed by"]);
    there.ok(&["pull", &name]);
    let file = here.home().join("shop.tar").display().to_string();
    there.ok(&["save", "-o", &file, &name]);
    archive.ok(&["load", "-i", &file]);
    drop(registry);
    for site in [&there, &archive] {
        assert_says(&site.ok(&["verify", &name, "--key", &public]), &["is signed by"]);
        site.ok(&["prune"]);
        assert_says(&site.ok(&["verify", &name, "--key", &public]), &["is signed by"]);
    }
}

#[test]
fn an_image_in_a_registry_is_signed_there_beside_earlier_signatures() {
    let registry = DockerRegistry::start();
    let (here, there) = (Sealift::new(), Sealift::new());
    let name = registry.name("team/shop:1");
    cluster_image(&here.store(), &name, 72, &[1000], &[]);
    let ((first, first_public), (second, second_public)) = (keys(&here, "first"), keys(&there, "second"));
    sign(&here, &name, &first, &[]);
    here.ok(&["push", &name]);
    sign(&there, &name, &second, &[]);
    assert!(there.store().refs().unwrap().is_empty());
    for public in [&first_public, &second_public] {
        there.ok(&["verify", &name, "--key", public, "--remote"]);
    }
    // what is in the store only is not lost, nor what is in the registry only
    here.ok(&["push", &name]);
    assert_eq!(here.json(&["verify", &name, "--key", &first_public, "--key", &second_public])["signatures"].as_array().unwrap().len(), 2);
}

#[test]
fn every_manifest_of_an_image_may_be_signed_and_its_signatures_travel_too() {
    let registry = DockerRegistry::start();
    let (here, there, afar) = (Sealift::new(), Sealift::new(), Sealift::new());
    let names = ["team/shop:1", "team/shop:2"].map(|name| registry.name(name));
    let (key, public) = keys(&here, "own");
    for (name, (seed, place)) in names.iter().zip([(74, &[][..]), (75, &["--remote"][..])]) {
        cluster_image(&here.store(), name, seed, &[1000], &[]);
        here.ok(&["push", name]);
        sign(&here, name, &key, &[&["--recursive"], place].concat());
        here.ok(&["push", name]);
        there.ok(&["pull", name]);
        let image = there.store().find(&name.parse().unwrap()).unwrap();
        let index: serde_json::Value =
            serde_json::from_slice(&std::fs::read(there.store().blob_path(&image.digest().try_into().unwrap())).unwrap()).unwrap();
        let manifests = index["manifests"].as_array().unwrap();
        assert_eq!(manifests.len(), 2);
        for manifest in manifests {
            let exact = format!("{}@{}", name.rsplit_once(':').unwrap().0, manifest["digest"].as_str().unwrap());
            assert_says(&afar.ok(&["verify", &exact, "--key", &public]), &["is signed by"]);
            let kept = there.store().referrers(&manifest["digest"].as_str().unwrap().parse().unwrap()).unwrap();
            assert_eq!(kept.len(), 1, "{exact}");
        }
    }
}

#[test]
fn what_an_image_was_signed_as_is_told_and_asked_for() {
    let (here, public) = (Sealift::new(), "registry.example.com/test/shop:1");
    cluster_image(&here.store(), public, 76, &[1000], &[]);
    let (key, own) = keys(&here, "own");
    sign(&here, public, &key, &[]);
    here.ok(&["tag", public, "site.local/prod/shop:1"]);
    let verify = ["verify", "site.local/prod/shop:1", "--key", &own];
    assert_says(&here.ok(&verify), &["is signed by", ", as registry.example.com/test/shop"]);
    let signed = &here.json(&verify)["signatures"][0];
    let der = run("sh", &["-c", &format!("openssl pkey -pubin -in {own} -outform DER | sha256sum")]);
    assert_eq!(signed["fingerprint"], format!("sha256:{}", der.split_whitespace().next().unwrap()));
    here.ok(&[&verify[..], &["--signed-as", "registry.example.com/**"]].concat());
    let said = here.fails(6, &[&verify[..], &["--signed-as", "*/prod/*"]].concat());
    assert_says(&said, &["it was signed as registry.example.com/test/shop, not as */prod/*"]);
    let policy = here.home().join("trust.yaml").display().to_string();
    let rule = "images:\n- {name: '*/prod/*', trust: required, keys: [own.pub], signedAs: '*/prod/*'}\n";
    std::fs::write(&policy, rule).unwrap();
    let run = ["run", "site.local/prod/shop:1", "-m", "127.0.0.9", "--trust-policy", &policy];
    assert_says(&here.fails(6, &run), &["is not trusted", "it was signed as registry.example.com/test/shop"]);
}
