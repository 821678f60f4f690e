//! `APP`: from URLs, from registries, charts and kustomizations.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::building::{blob, context, document, write};
use common::registry::Settings;
use common::sealift::{Sealift, assert_says};
use common::web::{Answer, Web};
use common::{images, run};
use oci_spec::image::MediaType;
use serde_json::{Value, json};

/// Builds without container images, and gives the cluster config and the paths of the rootfs.
fn built(sealift: &Sealift, context: &str) -> (Value, Vec<String>) {
    let built = sealift.json(&["build", "-t", "shop:1", "--compression", "gzip", "--build-mode", "lite", context]);
    let index = document(sealift, &built["digest"]);
    let rootfs = document(sealift, &index["manifests"][0]["digest"]);
    let cluster = serde_json::from_str(rootfs["annotations"]["io.sealift.cluster"].as_str().unwrap()).unwrap();
    let layers = rootfs["layers"].as_array().unwrap();
    let list = |layer: &Value| run("tar", &["-tzf", blob(sealift, &layer["digest"]).to_str().unwrap()]);
    let paths: String = layers.iter().map(list).collect();
    let files = paths.lines().filter(|path| !path.ends_with('/'));
    (cluster, files.filter_map(|path| path.strip_prefix("application/apps/")).map(str::to_owned).collect())
}

/// The container images that a build would bring.
fn wanted(sealift: &Sealift, context: &str) -> Vec<String> {
    let checked = sealift.json(&["build", "--check", context]);
    checked["wanted"]["images"].as_object().unwrap().keys().cloned().collect()
}

/// A chart's archive.
fn chart(dir: &Path) -> Vec<u8> {
    write(&dir.join("web/Chart.yaml"), "apiVersion: v2\nname: web\nversion: 1.0.0\n");
    write(&dir.join("web/templates/a.yaml"), "kind: Pod\n");
    let archive = dir.join("web-1.0.0.tgz").display().to_string();
    run("tar", &["-C", &dir.display().to_string(), "-czf", &archive, "web"]);
    fs::read(archive).unwrap()
}

#[test]
fn applications_come_from_the_web_and_from_archives() {
    let web = Web::start();
    web.put("net.yaml", Answer::File(b"image: quay.io/net/cni:v1\n".to_vec()));
    web.put("web-1.0.0.tgz", Answer::File(chart(tempfile::tempdir().unwrap().path())));
    let (sealift, context) = context(&[("Kubefile", "")]);
    chart(&Path::new(&context).join("charts"));
    let text = format!(
        "FROM scratch\nAPP net {}\nAPP web {}\nAPP same local://charts/web-1.0.0.tgz\nAPP dir local://charts/web\nLAUNCH [\"net\", \"web\"]\n",
        web.url("net.yaml"),
        web.url("web-1.0.0.tgz")
    );
    write(&Path::new(&context).join("Kubefile"), &text);
    let (cluster, files) = built(&sealift, &context);
    let kinds: Vec<_> = cluster["apps"].as_array().unwrap().iter().map(|app| format!("{}: {}", app["name"], app["type"])).collect();
    assert_eq!(kinds, [r#""net": "kube""#, r#""web": "helm""#, r#""same": "helm""#, r#""dir": "helm""#]);
    let charts = ["web", "same", "dir"].map(|app| [format!("{app}/Chart.yaml"), format!("{app}/templates/a.yaml")]).concat();
    assert_eq!(files, [&["net/net.yaml".to_owned()], charts.as_slice()].concat());
    assert!(wanted(&sealift, &context).contains(&"quay.io/net/cni:v1".to_owned()));
    assert!(web.log().iter().skip(2).all(|line| line.starts_with("304 ")), "nothing is fetched twice");

    write(&Path::new(&context).join("Kubefile"), &format!("FROM scratch\nAPP net {}\n", web.url("none.yaml")));
    assert_says(&sealift.fails(1, &["build", "--check", &context]), &["Kubefile:2: APP net", "404 not found"]);
}

#[test]
fn charts_come_from_registries() {
    let registry = Settings::default().start();
    let (sealift, context) = context(&[("Kubefile", "")]);
    let store = sealift.store();
    let layer = images::put(&store, "application/vnd.cncf.helm.chart.content.v1.tar+gzip".into(), &chart(sealift.home()));
    let config = images::put(&store, "application/vnd.cncf.helm.config.v1+json".into(), b"{\"name\":\"web\"}");
    let manifest = json!({"schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [layer]});
    let chart = images::put(&store, MediaType::ImageManifest, manifest.to_string().as_bytes());
    store.tag(&"charts/web:1.0.0".parse().unwrap(), &chart).unwrap();
    let container = images::container_image(&store, 1, &[100]);
    store.tag(&"charts/none:1".parse().unwrap(), &container).unwrap();
    for name in ["charts/web:1.0.0", "charts/none:1"] {
        sealift.ok(&["push", name, &registry.name(name)]);
    }

    let other = Sealift::new();
    write(&Path::new(&context).join("Kubefile"), &format!("FROM scratch\nAPP web oci://{}\n", registry.name("charts/web:1.0.0")));
    let (cluster, files) = built(&other, &context);
    assert_eq!(
        (cluster["apps"][0]["type"].as_str(), files),
        (Some("helm"), vec!["web/Chart.yaml".to_owned(), "web/templates/a.yaml".to_owned()])
    );

    write(&Path::new(&context).join("Kubefile"), &format!("FROM scratch\nAPP web oci://{}\n", registry.name("charts/none:1")));
    assert_says(&other.fails(1, &["build", "-t", "shop:1", &context]), &["Kubefile:2: APP web oci://", "is not a Helm chart", "hint:"]);
}

#[test]
fn kustomizations_want_the_images_that_they_make() {
    let (sealift, context) = context(&[
        ("Kubefile", "FROM scratch\nAPP web local://web\n"),
        ("web/kustomization.yaml", "resources: [base]\nimages:\n- name: nginx\n  newName: quay.io/mine/nginx\n  newTag: \"2\"\n"),
        ("web/base/kustomization.yaml", "resources: [deployment.yaml]\n"),
        (
            "web/base/deployment.yaml",
            "kind: Deployment\nspec: {template: {spec: {containers: [{image: 'nginx:1'}, {image: 'redis:7'}]}}}\n",
        ),
    ]);
    assert_eq!(wanted(&sealift, &context), ["docker.io/library/redis:7", "quay.io/mine/nginx:2"]);
    assert_eq!(built(&sealift, &context).0["apps"][0]["type"], "kustomize");
}
