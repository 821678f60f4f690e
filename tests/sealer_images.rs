//! Images made by Sealer (0.9 to 0.11) are pulled, looked at, and built upon.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::images::container_image;
use common::registry::DockerRegistry;
use common::run;
use common::sealift::{Sealift, assert_says};
use sealift::events::Context;
use sealift::image::Digest;
use sealift::registry::client::{Client, Options};

const EXTENSION: &str = r#"{"buildClient":{"sealerVersion":"0.11.0","buildahVersion":"1.25"},"schemaVersion":"v1alpha1","type":"kube-installer","applications":[{"name":"web","type":"kube","files":["web.yaml"],"version":"v1"}],"labels":{"cluster.alpha.sealer.io/cluster-runtime-type":"kubernetes","cluster.alpha.sealer.io/cluster-runtime-version":"v1.22.15"},"env":{"Tier":"prod"},"launch":{"cmds":[],"app_names":["web"]}}"#;

fn buildah(home: &Path, args: &[&str]) -> String {
    let at = |path: &str| home.join(path).display().to_string();
    let (root, runroot) = (at("storage"), at("run"));
    let mut command = Command::new("buildah");
    command.args(["--storage-driver", "vfs", "--root", &root, "--runroot", &runroot]).args(args).env("HOME", home);
    let output = command.output().unwrap();
    assert!(output.status.success(), "buildah {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Makes an image as Sealer does, with buildah: the storage of a docker-registry in a layer, the facts in an annotation.
async fn sealers_image(home: &Path, pool: &DockerRegistry, name: &str) -> Digest {
    let (source, ctx) = (Sealift::new(), Context::silent());
    let nginx = container_image(&source.store(), 81, &[2000, 3000]);
    let client = Client::new(Options::default()).unwrap();
    let (from, to) = (pool.name("library/nginx:other"), pool.name("library/nginx:1.25"));
    client.push(&nginx, &from.parse().unwrap(), &source.store(), &ctx).await.unwrap();
    let docker = |name: &str| format!("docker://{name}");
    run("skopeo", &["copy", "--src-tls-verify=false", "--dest-tls-verify=false", &docker(&from), &docker(&to)]);
    let context = home.join("context");
    fs::create_dir_all(context.join("etc")).unwrap();
    fs::write(context.join("etc/kubeadm.yml"), "kind: ClusterConfiguration\n").unwrap();
    let (tree, data) = (context.join("registry").display().to_string(), pool.data_dir().join("docker").display().to_string());
    fs::create_dir(&tree).unwrap();
    run("cp", &["-r", &data, &tree]);
    let container = buildah(home, &["from", "scratch"]);
    buildah(home, &["copy", &container, &context.display().to_string(), "/"]);
    buildah(home, &["config", "--annotation", &format!("sealer.image.extension={EXTENSION}"), &container]);
    // Sealer lists what it fetched; what came in otherwise is in the tree alone, without its registry
    let listed =
        r#"[{"image":"docker.io/library/nginx:1.25","appName":"web","platform":{"architecture":"amd64","os":"linux","variant":""}}]"#;
    buildah(home, &["config", "--annotation", &format!("sealer.image.container.images={listed}"), &container]);
    buildah(home, &["commit", "-q", "--format", "oci", &container, "sealers"]);
    buildah(home, &["push", "-q", "--tls-verify=false", "sealers", &docker(name)]);
    Digest::try_from(nginx.digest()).unwrap()
}

#[tokio::test]
async fn an_image_of_sealer_is_pulled_looked_at_and_built_upon() {
    let (pool, registry, sealift) = (DockerRegistry::start(), DockerRegistry::start(), Sealift::new());
    let name = registry.name("team/kubernetes:v1.22.15");
    let nginx = sealers_image(sealift.home(), &pool, &name).await;
    sealift.ok(&["pull", &name]);

    let image = sealift.json(&["inspect", &name]);
    let cluster = &image["parts"][0]["cluster"];
    assert_eq!((&cluster["apps"][0]["name"], &cluster["env"]["Tier"]), (&"web".into(), &"prod".into()), "{cluster}");
    let workloads = sealift.json(&["inspect", "--workloads", &name]);
    let names: Vec<&str> = workloads.as_array().unwrap().iter().map(|workload| workload["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["docker.io/library/nginx:1.25", "sea.hub:5000/library/nginx:other"]);
    assert_eq!(workloads[0]["digest"], nginx.to_string());
    assert!(workloads[0]["size"].as_u64().unwrap() > 5000, "{workloads}");
    assert_says(&sealift.ok(&["inspect", "--files", &name]), &["etc/kubeadm.yml"]);

    let context = sealift.home().join("more");
    fs::create_dir_all(&context).unwrap();
    fs::write(context.join("more.txt"), "more").unwrap();
    fs::write(context.join("Kubefile"), format!("FROM {name}\nCOPY more.txt etc/\n")).unwrap();
    sealift.ok(&["build", "-t", "more:1", context.to_str().unwrap()]);
    assert_says(&sealift.ok(&["inspect", "--files", "more:1"]), &["etc/kubeadm.yml", "etc/more.txt"]);
    assert_eq!(sealift.json(&["inspect", "more:1"])["parts"][0]["cluster"]["apps"][0]["name"], "web");
    assert_eq!(sealift.json(&["inspect", "--workloads", "more:1"]), workloads);
}
