//! The documents that `kubeadm init` and `kubeadm join` read, made of what the image, the Clusterfile and the hosts say. Pure.
//!
//! For each field: Clusterfile over computed over image over built-in. What only we can know (addresses, endpoint, node
//! names, tokens, the version that the image brings) is always ours. Names of the API server's certificate are united.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::clusterfile::merge::{object, overlay};
use crate::clusterfile::{KubeadmDocuments, Networks, Taint, networks_of};

use super::api_version::{Release, arguments_to_maps, arguments_to_text};

/// What all nodes of a cluster share.
#[derive(Debug, Clone)]
pub struct ClusterValues {
    /// The Kubernetes version that the image brings, such as `v1.20.2`.
    pub version: String,
    /// The cluster's name, where the Clusterfile's `ClusterConfiguration` says none.
    pub name: String,
    /// How every node reaches the API server: `apiserver.cluster.local:6443`.
    pub endpoint: String,
    /// Names and addresses of the API server's certificate besides those of the endpoint: masters, and what the user adds.
    pub cert_sans: Vec<String>,
    /// The networks that the Clusterfile says outside of kubeadm's documents.
    pub networks: Networks,
    /// Where the control plane's images come from, if that is not as the image says.
    pub image_repository: Option<String>,
    /// Where the image of the cluster's DNS comes from, where neither image nor Clusterfile say it.
    pub dns_repository: Option<String>,
    /// The cgroup driver of kubelets, if that is not as the image says: `systemd` or `cgroupfs`.
    pub cgroup_driver: Option<String>,
    /// The container runtime's socket on hosts, without a scheme.
    pub cri_socket: String,
    /// The token that nodes join with; we choose it.
    pub token: SecretString,
    /// The key that the control plane's certificates are encrypted with on their way to other masters; we choose it.
    pub certificate_key: SecretString,
}

/// What is of one node.
#[derive(Debug, Clone)]
pub struct NodeValues {
    /// Its name in the cluster.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Whether it runs the control plane.
    pub is_master: bool,
    /// Whether it runs workloads; a master that does is not tainted as one.
    pub is_worker: bool,
    /// Its labels; those that a kubelet may not give itself are left out.
    pub labels: BTreeMap<String, String>,
    /// Its taints; those to be removed are left out.
    pub taints: Vec<Taint>,
}

/// How a joining node finds the cluster and trusts it.
#[derive(Debug, Clone)]
pub enum Discovery {
    /// By the token and the digests of the cluster's CA: `sha256:<hex>`.
    Token {
        /// The digests of the CA's public key.
        ca_cert_hashes: Vec<String>,
    },
    /// By a kubeconfig on the host.
    File {
        /// Its path.
        path: String,
    },
}

/// The documents for `kubeadm init --config` on the first master. Holds secrets.
pub fn init(image: &KubeadmDocuments, clusterfile: &KubeadmDocuments, cluster: &ClusterValues, node: &NodeValues) -> Result<SecretString> {
    let release = Release::parse(&cluster.version)?;
    let api = release.api_version();
    let mut init = layered(json!({}), &image.init, init_values(cluster), &clusterfile.init);
    overlay(&mut init, &init_facts(cluster, node));
    register(&mut init, cluster, node, release, user_socket(&clusterfile.init));
    let mut configuration = cluster_configuration(image, clusterfile, cluster);
    api.move_health_timeout(&configuration, &mut init);
    for document in [&mut init, &mut configuration] {
        arguments_to_text(document);
        api.adapt(document);
    }
    let documents = [
        named(api.name(), "InitConfiguration", init),
        named(api.name(), "ClusterConfiguration", configuration),
        named("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration", kubelet_configuration(image, clusterfile, cluster)),
        named(
            "kubeproxy.config.k8s.io/v1alpha1",
            "KubeProxyConfiguration",
            layered(json!({}), &image.kube_proxy, json!({}), &clusterfile.kube_proxy),
        ),
    ];
    stream(&documents)
}

/// The document for `kubeadm join --config` on a further master or on a worker. Holds secrets.
pub fn join(
    image: &KubeadmDocuments,
    clusterfile: &KubeadmDocuments,
    cluster: &ClusterValues,
    node: &NodeValues,
    discovery: &Discovery,
) -> Result<SecretString> {
    let release = Release::parse(&cluster.version)?;
    let api = release.api_version();
    let mut join = layered(json!({}), &image.join, json!({}), &clusterfile.join);
    let fields = object(&mut join);
    let mut section = fields.shift_remove("discovery").unwrap_or_default();
    object(&mut section).retain(|field, _| ["timeout", "tlsBootstrapToken"].contains(&field.as_str()));
    overlay(&mut section, &discovery_facts(cluster, discovery));
    fields.insert("discovery".to_owned(), section);
    if node.is_master {
        overlay(&mut join, &control_plane_facts(cluster, node));
    } else {
        fields.shift_remove("controlPlane");
    }
    register(&mut join, cluster, node, release, user_socket(&clusterfile.join));
    arguments_to_text(&mut join);
    api.adapt(&mut join);
    stream(&[named(api.name(), "JoinConfiguration", join)])
}

/// The networks of pods and services that a cluster will have: Clusterfile over image over built-in.
pub fn networks(image: &KubeadmDocuments, clusterfile: &KubeadmDocuments, said: &Networks) -> Networks {
    let of = |documents: &KubeadmDocuments| documents.cluster.as_ref().map(networks_of).unwrap_or_default();
    let (image, clusterfile, built_in) = (of(image), of(clusterfile), networks_of(&built_in_cluster()));
    let first = |lists: [&Vec<ipnet::IpNet>; 4]| lists.into_iter().find(|list| !list.is_empty()).cloned().unwrap_or_default();
    Networks {
        pods: first([&clusterfile.pods, &said.pods, &image.pods, &built_in.pods]),
        services: first([&clusterfile.services, &said.services, &image.services, &built_in.services]),
    }
}

/// The defaults of Sealer's images, for images that say nothing.
fn built_in_cluster() -> Value {
    json!({ "networking": { "dnsDomain": "cluster.local", "podSubnet": "100.64.0.0/10", "serviceSubnet": "10.96.0.0/22" } })
}

fn cluster_configuration(image: &KubeadmDocuments, clusterfile: &KubeadmDocuments, cluster: &ClusterValues) -> Value {
    let mut configuration =
        layered(built_in_cluster(), &without_etcd_servers(&image.cluster), cluster_values(cluster), &clusterfile.cluster);
    if let Some(repository) = &cluster.dns_repository
        && configuration.pointer("/dns/imageRepository").is_none()
    {
        overlay(&mut configuration, &json!({ "dns": { "imageRepository": repository } }));
    }
    let sans = cert_sans(image, clusterfile, cluster);
    overlay(
        &mut configuration,
        &json!({
            "kubernetesVersion": format!("v{}", cluster.version.trim().trim_start_matches('v')),
            "controlPlaneEndpoint": cluster.endpoint,
            "apiServer": { "certSANs": sans },
        }),
    );
    configuration
}

/// No image knows the addresses of a cluster's etcd: what Sealer's say is a placeholder, for Sealer itself to write over.
fn without_etcd_servers(image: &Option<Value>) -> Option<Value> {
    let mut image = image.clone()?;
    arguments_to_maps(&mut image);
    if let Some(arguments) = image.pointer_mut("/apiServer/extraArgs").and_then(Value::as_object_mut) {
        arguments.shift_remove("etcd-servers");
    }
    Some(image)
}

fn cluster_values(cluster: &ClusterValues) -> Value {
    let list = |networks: &[ipnet::IpNet]| networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut values = json!({ "clusterName": cluster.name });
    if !cluster.networks.pods.is_empty() {
        overlay(&mut values, &json!({ "networking": { "podSubnet": list(&cluster.networks.pods) } }));
    }
    if !cluster.networks.services.is_empty() {
        overlay(&mut values, &json!({ "networking": { "serviceSubnet": list(&cluster.networks.services) } }));
    }
    if let Some(repository) = &cluster.image_repository {
        overlay(&mut values, &json!({ "imageRepository": repository }));
    }
    values
}

/// All names of the API server, each once.
fn cert_sans(image: &KubeadmDocuments, clusterfile: &KubeadmDocuments, cluster: &ClusterValues) -> Vec<String> {
    let host = cluster.endpoint.rsplit_once(':').map_or(cluster.endpoint.as_str(), |(host, _)| host);
    let of = |documents: &KubeadmDocuments| -> Vec<String> {
        let list = documents.cluster.as_ref().and_then(|document| document.pointer("/apiServer/certSANs")?.as_array());
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let own = ["127.0.0.1".to_owned(), host.trim_matches(['[', ']']).to_owned()];
    let mut sans: Vec<String> = Vec::new();
    for name in own.into_iter().chain(cluster.cert_sans.clone()).chain(of(image)).chain(of(clusterfile)) {
        if !sans.contains(&name) {
            sans.push(name);
        }
    }
    sans
}

fn kubelet_configuration(image: &KubeadmDocuments, clusterfile: &KubeadmDocuments, cluster: &ClusterValues) -> Value {
    let computed = cluster.cgroup_driver.as_ref().map_or(json!({}), |driver| json!({ "cgroupDriver": driver }));
    layered(json!({ "cgroupDriver": "systemd" }), &image.kubelet, computed, &clusterfile.kubelet)
}

fn init_values(cluster: &ClusterValues) -> Value {
    let token = json!({
        "token": cluster.token.expose_secret(),
        "ttl": "2h0m0s",
        "usages": ["signing", "authentication"],
        "groups": ["system:bootstrappers:kubeadm:default-node-token"],
    });
    json!({ "bootstrapTokens": [token], "localAPIEndpoint": { "bindPort": port(&cluster.endpoint) } })
}

fn init_facts(cluster: &ClusterValues, node: &NodeValues) -> Value {
    json!({
        "localAPIEndpoint": { "advertiseAddress": node.address.to_string() },
        "certificateKey": cluster.certificate_key.expose_secret(),
    })
}

fn control_plane_facts(cluster: &ClusterValues, node: &NodeValues) -> Value {
    json!({ "controlPlane": {
        "localAPIEndpoint": { "advertiseAddress": node.address.to_string(), "bindPort": port(&cluster.endpoint) },
        "certificateKey": cluster.certificate_key.expose_secret(),
    } })
}

fn discovery_facts(cluster: &ClusterValues, discovery: &Discovery) -> Value {
    match discovery {
        Discovery::Token { ca_cert_hashes } => json!({ "bootstrapToken": {
            "apiServerEndpoint": cluster.endpoint,
            "token": cluster.token.expose_secret(),
            "caCertHashes": ca_cert_hashes,
        } }),
        Discovery::File { path } => json!({ "file": { "kubeConfigPath": path }, "tlsBootstrapToken": cluster.token.expose_secret() }),
    }
}

fn port(endpoint: &str) -> u16 {
    endpoint.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(6443)
}

/// Fills in how a node registers: its name, its runtime, its address, its labels and taints.
fn register(document: &mut Value, cluster: &ClusterValues, node: &NodeValues, release: Release, user_socket: Option<String>) {
    let socket = user_socket.unwrap_or_else(|| cluster.cri_socket.clone());
    let path = socket.strip_prefix("unix://").unwrap_or(&socket);
    let socket = if release.is_at_least(24) { format!("unix://{path}") } else { path.to_owned() };
    overlay(
        document,
        &json!({ "nodeRegistration": {
            "name": node.name,
            "criSocket": socket,
            "kubeletExtraArgs": { "node-ip": node.address.to_string() },
        } }),
    );
    let labels: Vec<String> =
        node.labels.iter().filter(|(key, _)| may_label_itself(key)).map(|(key, value)| format!("{key}={value}")).collect();
    if !labels.is_empty() {
        overlay(document, &json!({ "nodeRegistration": { "kubeletExtraArgs": { "node-labels": labels.join(",") } } }));
    }
    if let Some(taints) = taints(node, release) {
        overlay(document, &json!({ "nodeRegistration": { "taints": taints } }));
    }
}

fn user_socket(document: &Option<Value>) -> Option<String> {
    let socket = document.as_ref()?.pointer("/nodeRegistration/criSocket")?.as_str()?;
    // what old examples copy from kubeadm's defaults is not a wish
    (!socket.is_empty() && !socket.ends_with("dockershim.sock")).then(|| socket.to_owned())
}

/// Whether a kubelet may give its own node a label (NodeRestriction).
fn may_label_itself(key: &str) -> bool {
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    let within = |domain: &str| prefix == domain || prefix.ends_with(&format!(".{domain}"));
    within("kubelet.kubernetes.io") || within("node.kubernetes.io") || !(within("kubernetes.io") || within("k8s.io"))
}

/// The taints that a node registers with; `None` leaves them to kubeadm: masters are tainted, workers are not.
fn taints(node: &NodeValues, release: Release) -> Option<Value> {
    let own = node.taints.iter().filter(|taint| !taint.remove).filter_map(|taint| {
        let effect = taint.effect?.to_string();
        Some(json!({ "key": taint.key, "value": taint.value, "effect": effect }))
    });
    let own: Vec<Value> = own.collect();
    match (node.is_master, node.is_worker, own.is_empty()) {
        (true, false, true) | (false, _, true) => None,
        (true, false, false) => Some(control_plane_taints(release).into_iter().chain(own).collect()),
        _ => Some(Value::Array(own)),
    }
}

/// What kubeadm taints masters with: the old key until 1.24, the new one since.
fn control_plane_taints(release: Release) -> Vec<Value> {
    let taint = |role: &str| json!({ "key": format!("node-role.kubernetes.io/{role}"), "effect": "NoSchedule" });
    let old = (!release.is_at_least(25)).then(|| taint("master"));
    let new = release.is_at_least(24).then(|| taint("control-plane"));
    old.into_iter().chain(new).collect()
}

/// Four layers of one document, the later ones winning.
fn layered(built_in: Value, image: &Option<Value>, computed: Value, clusterfile: &Option<Value>) -> Value {
    let mut document = built_in;
    for layer in [image.as_ref(), Some(&computed), clusterfile.as_ref()].into_iter().flatten() {
        let mut layer = layer.clone();
        arguments_to_maps(&mut layer);
        overlay(&mut document, &layer);
    }
    document
}

fn named(api_version: &str, kind: &str, document: Value) -> Value {
    let mut named = json!({ "apiVersion": api_version, "kind": kind });
    for (field, value) in document.as_object().into_iter().flatten().filter(|(field, _)| !["apiVersion", "kind"].contains(&field.as_str()))
    {
        named[field.as_str()] = value.clone();
    }
    named
}

fn stream(documents: &[Value]) -> Result<SecretString> {
    let texts = documents.iter().map(serde_saphyr::to_string).collect::<Result<Vec<_>, _>>().context("write kubeadm's documents")?;
    Ok(SecretString::from(texts.join("---\n")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clusterfile::load;

    fn values(version: &str) -> ClusterValues {
        ClusterValues {
            version: version.to_owned(),
            name: "shop".to_owned(),
            endpoint: "apiserver.cluster.local:6443".to_owned(),
            cert_sans: vec!["10.0.0.2".to_owned(), "example.com".to_owned()],
            networks: Networks { pods: vec!["10.244.0.0/16".parse().unwrap()], services: Vec::new() },
            image_repository: None,
            dns_repository: None,
            cgroup_driver: None,
            cri_socket: "/run/containerd/containerd.sock".to_owned(),
            token: SecretString::from("abcdef.0123456789abcdef"),
            certificate_key: SecretString::from("00".repeat(32)),
        }
    }

    fn node(is_master: bool) -> NodeValues {
        NodeValues {
            name: "h1".to_owned(),
            address: "10.0.0.2".parse().unwrap(),
            is_master,
            is_worker: !is_master,
            labels: BTreeMap::from([("disk".to_owned(), "ssd".to_owned()), ("node-role.kubernetes.io/db".to_owned(), String::new())]),
            taints: vec!["db=1:NoSchedule".parse().unwrap()],
        }
    }

    const IMAGE: &str = "
kind: InitConfiguration
nodeRegistration: {criSocket: /var/run/dockershim.sock, taints: null}
---
kind: ClusterConfiguration
kubernetesVersion: v1.19.8
dns: {type: ''}
imageRepository: registry.k8s.io
etcd: {local: {imageTag: 3.4.23-0, extraArgs: {listen-metrics-urls: 'http://0.0.0.0:2381'}}}
apiServer: {certSANs: [image.example], extraArgs: {audit-log-maxage: 7, etcd-servers: 'https://172.16.0.181:2379'}}
networking: {podSubnet: 100.64.0.0/10, serviceSubnet: 10.96.0.0/22}
---
kind: JoinConfiguration
discovery: {timeout: 5m0s}
controlPlane: {localAPIEndpoint: {bindPort: 6443}}
---
kind: KubeletConfiguration
cgroupDriver: cgroupfs
---
kind: KubeProxyConfiguration
mode: iptables
conntrack: {maxPerCore: 0}
";

    const CLUSTERFILE: &str = "
kind: ClusterConfiguration
apiServer: {certSANs: [shop.example, 10.0.0.2], extraArgs: [{name: audit-log-maxage, value: '9'}]}
---
kind: KubeletConfiguration
maxPods: 200
";

    fn documents(text: &str) -> KubeadmDocuments {
        load("kubeadm.yml", text).unwrap().kubeadm
    }

    fn init_for(version: &str) -> String {
        init(&documents(IMAGE), &documents(CLUSTERFILE), &values(version), &node(true)).unwrap().expose_secret().to_owned()
    }

    fn join_for(version: &str, is_master: bool) -> String {
        let discovery = Discovery::Token { ca_cert_hashes: vec!["sha256:11".to_owned()] };
        let text = join(&documents(IMAGE), &documents(CLUSTERFILE), &values(version), &node(is_master), &discovery).unwrap();
        text.expose_secret().to_owned()
    }

    #[test]
    fn init_documents_are_what_each_release_reads() {
        insta::assert_snapshot!("init-1.20", init_for("v1.20.2"));
        insta::assert_snapshot!("init-1.24", init_for("1.24.17"));
        insta::assert_snapshot!("init-1.31", init_for("v1.31.0"));
    }

    #[test]
    fn join_documents_are_what_each_release_reads() {
        insta::assert_snapshot!("join-master-1.20", join_for("v1.20.2", true));
        insta::assert_snapshot!("join-worker-1.20", join_for("v1.20.2", false));
        insta::assert_snapshot!("join-worker-1.24", join_for("v1.24.17", false));
        insta::assert_snapshot!("join-master-1.31", join_for("v1.31.0", true));
    }

    #[test]
    fn networks_come_from_the_strongest_that_says_them() {
        let said = Networks { pods: vec!["10.1.0.0/16".parse().unwrap()], services: Vec::new() };
        let none = KubeadmDocuments::default();
        let user = documents("kind: ClusterConfiguration\nnetworking: {podSubnet: 10.9.0.0/16}\n");
        let pods = |networks: Networks| networks.pods[0].to_string();
        assert_eq!(pods(networks(&documents(IMAGE), &user, &said)), "10.9.0.0/16");
        assert_eq!(pods(networks(&documents(IMAGE), &none, &said)), "10.1.0.0/16");
        assert_eq!(pods(networks(&documents(IMAGE), &none, &Networks::default())), "100.64.0.0/10");
        assert_eq!(networks(&none, &none, &Networks::default()).services[0].to_string(), "10.96.0.0/22");
    }

    #[test]
    fn discovery_by_file_names_no_endpoint() {
        let discovery = Discovery::File { path: "/etc/kubernetes/discovery.conf".to_owned() };
        let none = KubeadmDocuments::default();
        let text = join(&none, &none, &values("v1.20.2"), &node(false), &discovery).unwrap();
        let text = text.expose_secret();
        assert!(text.contains("kubeConfigPath: /etc/kubernetes/discovery.conf") && !text.contains("bootstrapToken:"), "{text}");
        assert!(!text.contains("controlPlane"), "{text}");
    }

    #[test]
    fn a_master_that_works_is_not_tainted_as_master() {
        let mut both = node(true);
        both.is_worker = true;
        both.taints.clear();
        let none = KubeadmDocuments::default();
        let text = init(&none, &none, &values("v1.20.2"), &both).unwrap();
        assert!(text.expose_secret().contains("taints: []"), "{}", text.expose_secret());
    }
}
