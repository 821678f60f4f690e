//! An image in the shape that Sealer gives it, with our Kubernetes: brought up on a master and a worker, its container images served
//! out of its registry tree, and reset. Real kubeadm, kubelet, etcd, containerd, sshd.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::hosts::Hosts;
use common::images::put;
use common::kubefiles::{container_images, kubernetes_context, repository};
use common::registry::DockerRegistry;
use common::run;
use common::sealift::{Sealift, assert_says};
use oci_spec::image::{Descriptor, MediaType};
use serde_json::{Value, json};

const INSTALL: &str = "#!/bin/bash
set -e
cd \"$(dirname \"$0\")/..\"
tar -xzf cri/containerd.tar.gz -C /
mkdir -p \"${ContainerDataRoot:-/var/lib/containerd}\" /etc/containerd
cp etc/containerd-config.toml /etc/containerd/config.toml
cp etc/containerd.service /etc/systemd/system/
systemctl daemon-reload
systemctl enable containerd.service
systemctl restart containerd.service
";
const UNINSTALL: &str = "#!/bin/bash
systemctl stop containerd
systemctl disable containerd
rm -f /usr/bin/containerd /usr/bin/containerd-shim-runc-v2 /usr/bin/ctr /usr/bin/runc /etc/systemd/system/containerd.service /etc/crictl.yaml
rm -rf /etc/containerd /var/lib/containerd /opt/cni
systemctl daemon-reload
";
/// `init-kube.sh` and `init-registry.sh`: sealift must not run them.
const NOT_RUN: &str = "#!/bin/bash\necho this script must not run >&2\nexit 1\n";
/// As in Sealer's images: with placeholders that Sealer replaces, and the registry that it starts.
const KUBEADM: &str = "
apiVersion: kubeadm.k8s.io/v1beta2
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: 172.16.0.181, bindPort: 6443}
nodeRegistration: {criSocket: /var/run/dockershim.sock, taints: null}
---
apiVersion: kubeadm.k8s.io/v1beta2
kind: ClusterConfiguration
kubernetesVersion: v1.19.8
controlPlaneEndpoint: apiserver.cluster.local:6443
imageRepository: {{or .RegistryURL \"sea.hub:5000\"}}
apiServer:
  certSANs:
  extraArgs: {etcd-servers: 'https://172.16.0.181:2379', enable-aggregator-routing: 'true'}
dns: {type: ''}
etcd: {local: {dataDir: '', imageTag: '@ETCD@', extraArgs: {listen-metrics-urls: 'http://0.0.0.0:2381'}}}
networking: {podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/16}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
evictionHard: {memory.available: 100Mi, nodefs.available: 1Gi, nodefs.inodesFree: 5%, imagefs.available: 1Gi}
syncFrequency: 10s
serializeImagePulls: false
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
conntrack: {maxPerCore: 0}
";

/// Puts the image into the store of `sealift`, with as many layers as Sealer's: the files, then the tree.
fn sealers_kubernetes(sealift: &Sealift, name: &str) {
    let (rootfs, tree) = (sealift.home().join("rootfs"), sealift.home().join("tree"));
    lay_out(&rootfs);
    registry_tree(&tree);
    let layers = [layer(sealift, &rootfs), layer(sealift, &tree)];
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.digest().to_string()).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": "COPY"}, {"created_by": "registry"}]});
    let config = put(&sealift.store(), MediaType::ImageConfig, config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers,
        "annotations": {"sealer.image.extension": extension().to_string()}});
    let manifest = put(&sealift.store(), MediaType::ImageManifest, manifest.to_string().as_bytes());
    sealift.store().tag(&name.parse().expect("a name"), &manifest).expect("the image is named");
}

fn extension() -> Value {
    let app = |name: &str, file: &str| json!({"name": name, "type": "kube", "files": [file], "version": "v1"});
    json!({
        "buildClient": {"sealerVersion": "0.11.0", "buildahVersion": "1.27.1"}, "schemaVersion": "v1alpha1", "type": "kube-installer",
        "applications": [app("cni-routes", "cni-routes.yaml"), app("demo", "demo.yaml")],
        "labels": {
            "cluster.alpha.sealer.io/cluster-runtime-type": "kubernetes",
            "cluster.alpha.sealer.io/cluster-runtime-version": "v1.20.2",
            "cluster.alpha.sealer.io/container-runtime-type": "containerd",
            "cluster.alpha.sealer.io/kube-cni-cni-routes": "true",
        },
        "env": {"CgroupDriver": "cgroupfs"}, "launch": {"cmds": null, "app_names": ["cni-routes", "demo"]},
    })
}

/// The files of our own Kubernetes image where Sealer's have theirs.
fn lay_out(rootfs: &Path) {
    let ours = kubernetes_context();
    let (host, shell) = (ours.join("host"), |line: String| run("bash", &["-euc", &line]));
    let at = |path: &str| rootfs.join(path).display().to_string();
    for directory in ["bin", "cri", "etc", "scripts", "application/apps/cni-routes", "application/apps/demo"] {
        fs::create_dir_all(rootfs.join(directory)).expect("a directory");
    }
    // programs without their modes: init-kube.sh would set them
    shell(format!("cd {}/usr/bin; cp kubeadm kubelet kubectl crictl etcdctl {bin}; chmod 644 {bin}/*", host.display(), bin = at("bin")));
    let parts = "usr/bin/containerd usr/bin/containerd-shim-runc-v2 usr/bin/ctr usr/bin/runc opt/cni/bin etc/crictl.yaml";
    shell(format!("tar -C {} -czf {} {parts}", host.display(), at("cri/containerd.tar.gz")));
    let units = host.join("etc/systemd/system").display().to_string();
    shell(format!("cp {units}/*.service {units}/kubelet.service.d/10-kubeadm.conf {}", at("etc")));
    let apps = [("cni-routes", "kubefiles/kubernetes/cni-routes/cni-routes.yaml"), ("demo", "kubefiles/demo/demo.yaml")];
    for (app, file) in apps {
        fs::copy(repository(file), rootfs.join(format!("application/apps/{app}/{app}.yaml"))).expect("the manifest is copied");
    }
    let containerd = fs::read_to_string(host.join("etc/containerd/config.toml.tmpl")).expect("containerd's configuration");
    let driver = "{{ if eq .CgroupDriver \"systemd\" }}true{{ else }}false{{ end }}";
    let containerd = containerd.replace("registry.k8s.io/pause", "sea.hub:5000/pause").replace(driver, "false");
    let list = fs::read_to_string(ours.join("manifests/imageList")).expect("the list of images");
    let etcd = list.lines().find_map(|line| line.split_once("/etcd:")).expect("etcd is in the list").1;
    for (path, text) in [
        ("etc/containerd-config.toml", containerd.as_str()),
        ("etc/kubeadm.yml.tmpl", &KUBEADM.replace("@ETCD@", etcd)),
        ("scripts/containerd.sh", INSTALL),
        ("scripts/uninstall-containerd.sh", UNINSTALL),
        ("scripts/init-kube.sh", NOT_RUN),
        ("scripts/init-registry.sh", NOT_RUN),
        ("Metadata", "{\"version\": \"v1.20.2\", \"arch\": \"amd64\"}"),
    ] {
        fs::write(rootfs.join(path), text).expect("a file of the image");
    }
}

/// The container images as the storage of a docker-registry, without the registries of their names.
fn registry_tree(tree: &Path) {
    let (pool, images) = (DockerRegistry::start(), container_images());
    let index: Value = serde_json::from_slice(&fs::read(images.join("index.json")).expect("an index")).expect("an index");
    for image in index["manifests"].as_array().expect("manifests") {
        let name = image["annotations"]["org.opencontainers.image.ref.name"].as_str().expect("a name");
        let (_, path) = name.split_once('/').expect("a registry");
        let to = format!("docker://{}", pool.name(path));
        run("skopeo", &["copy", "-q", "--dest-tls-verify=false", &format!("oci:{}:{name}", images.display()), &to]);
    }
    fs::create_dir_all(tree.join("registry")).expect("a directory");
    run("cp", &["-r", &pool.data_dir().join("docker").display().to_string(), &tree.join("registry").display().to_string()]);
}

fn layer(sealift: &Sealift, directory: &Path) -> Descriptor {
    let tar = directory.with_extension("tar");
    run("tar", &["-C", &directory.display().to_string(), "--owner=0", "--group=0", "-cf", &tar.display().to_string(), "."]);
    let mut writer = sealift.store().writer().expect("a writer");
    std::io::copy(&mut fs::File::open(&tar).expect("the layer"), &mut writer).expect("the layer is read");
    fs::remove_file(tar).expect("the layer is in the store");
    let blob = writer.commit().expect("the layer is whole");
    Descriptor::new(MediaType::ImageLayer, blob.size, blob.digest)
}

/// Every node answers with its own name, through its own port.
fn assert_demo_answers(hosts: &Hosts) {
    for (number, address) in (1..).zip(hosts.addresses()) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let url = format!("http://{address}:30080/");
        let ask = || run("curl", &["-s", "--max-time", "3", "--retry", "5", "--retry-connrefused", &url]);
        while ask().trim() != format!("hello from h{number}") {
            assert!(Instant::now() < deadline, "{address} does not answer");
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

#[test]
fn an_image_of_sealer_comes_up_with_the_container_images_of_its_tree_and_a_reset_leaves_clean_hosts() {
    let sealift = Sealift::new();
    sealers_kubernetes(&sealift, "sealers:v1.20.2");
    let hosts = Hosts::up(2);
    let (key, addresses) = (hosts.key().display().to_string(), hosts.addresses().iter().map(ToString::to_string).collect::<Vec<_>>());
    let bring_up = ["run", "sealers:v1.20.2", "--name", "k", "-m", &addresses[0], "-n", &addresses[1], "--pk", &key];
    assert!(sealift.json(&bring_up)["changes"].as_u64().is_some_and(|changes| changes > 10));
    assert_demo_answers(&hosts);
    let status = sealift.ok(&["status", "--pk", &key]);
    assert_eq!(status.matches("Ready v1.").count(), 2, "{status}");
    assert_eq!(sealift.json(&bring_up)["changes"], 0, "a second run changes nothing");

    // the local registry serves them, on the master alone; no host has the registry directory
    let images = hosts.run("h2", "ctr -n k8s.io images list -q");
    assert_says(&images, &["sea.hub:5000/pause:3.2", "sea.hub:5000/kube-proxy:v1.20.2", "docker.io/sealift/demo:1.0"]);
    for host in ["h1", "h2"] {
        assert!(!hosts.succeeds(host, "test -e /var/lib/sealift/rootfs/current/registry"), "{host} has the tree");
    }

    sealift.ok(&["reset", "--yes", "--pk", &key]);
    for host in ["h1", "h2"] {
        let left = "ls -d /etc/kubernetes /var/lib/kubelet /var/lib/etcd /var/lib/containerd /etc/containerd /etc/cni /var/lib/sealift \
            /usr/bin/kube* /usr/bin/containerd* /etc/systemd/system/kube* 2>/dev/null; \
            pgrep -a 'containerd|kubelet|etcd'; grep -e kubelet -e containerd /proc/mounts; true";
        assert_eq!(hosts.run(host, left), "", "{host} after the reset");
    }
}
