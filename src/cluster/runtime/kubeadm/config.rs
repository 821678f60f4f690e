//! The configuration of `kubeadm init` and `kubeadm join`, merged from the image, the Clusterfile and the hosts. Pure.
//!
//! Precedence of each field: Clusterfile, computed, image, built-in. Addresses, endpoint, node names, tokens and the version of
//! Kubernetes are always computed. The names of the API server's certificate (`certSANs`) are the union of all.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::clusterfile::merge::{object, overlay};
use crate::clusterfile::{KubeadmDocuments, Networks, Taint, networks_of};

use super::api_version::{ApiVersion, Release, arguments_to_maps, arguments_to_text};
use crate::error::Failure;

/// The computed values that all nodes of a cluster share.
#[derive(Debug, Clone)]
pub struct ClusterValues {
    /// The Kubernetes version that the image contains, such as `v1.20.2`.
    pub version: String,
    /// The `clusterName`, if the `ClusterConfiguration` of the Clusterfile has none.
    pub name: String,
    /// The control plane endpoint of all nodes: `apiserver.cluster.local:6443`.
    pub endpoint: String,
    /// More names and addresses for the API server's certificate: the masters, and those of the Clusterfile.
    pub cert_sans: Vec<String>,
    /// The networks that the Clusterfile sets outside of kubeadm's documents.
    pub networks: Networks,
    /// The `imageRepository` of the control plane, if it is not that of the image.
    pub image_repository: Option<String>,
    /// Whether the image has no CoreDNS, and kubeadm (1.31 or later) is told so.
    pub dns_disabled: bool,
    /// The image repository of CoreDNS, if neither the image nor the Clusterfile sets it.
    pub dns_repository: Option<String>,
    /// The cgroup driver of kubelets, if it is not that of the image: `systemd` or `cgroupfs`.
    pub cgroup_driver: Option<String>,
    /// The CRI socket on hosts, without `unix://`.
    pub cri_socket: String,
    /// The bootstrap token.
    pub token: SecretString,
    /// The key that encrypts the control plane's certificates for other masters.
    pub certificate_key: SecretString,
}

/// The values of one node.
#[derive(Debug, Clone)]
pub struct NodeValues {
    /// Its node name.
    pub name: String,
    /// Its IP address: `advertiseAddress` and `node-ip`.
    pub address: IpAddr,
    /// Whether it runs the control plane.
    pub is_master: bool,
    /// Whether it runs workloads; then a master is not tainted.
    pub is_worker: bool,
    /// Its labels; those that NodeRestriction forbids a kubelet to set are left out.
    pub labels: BTreeMap<String, String>,
    /// Its taints; those to be removed are left out.
    pub taints: Vec<Taint>,
}

/// How a joining node discovers the cluster (`discovery` of JoinConfiguration).
#[derive(Debug, Clone)]
pub enum Discovery {
    /// By the bootstrap token and the hashes of the cluster's CA.
    Token {
        /// The hashes of the CA's public key, `sha256:<hex>`.
        ca_cert_hashes: Vec<String>,
    },
    /// By a kubeconfig on the host.
    File {
        /// The path of the kubeconfig.
        path: String,
    },
}

/// The documents for `kubeadm init --config` on the first master. Contains secrets.
///
/// # Errors
/// `Usage` if the version is not one of Kubernetes, or its kubeadm does not have a field of the documents.
pub fn init(image: &KubeadmDocuments, clusterfile: &KubeadmDocuments, cluster: &ClusterValues, node: &NodeValues) -> Result<SecretString> {
    let release = Release::parse(&cluster.version)?;
    let api = release.api_version();
    let mut init = layered(json!({}), &image.init, init_values(cluster), &clusterfile.init);
    overlay(&mut init, &init_facts(cluster, node));
    register(&mut init, cluster, node, release, user_socket(&clusterfile.init));
    let mut configuration = cluster_configuration(image, clusterfile, cluster);
    api.move_health_timeout(&mut configuration, &mut init);
    for (kind, document) in [("InitConfiguration", &mut init), ("ClusterConfiguration", &mut configuration)] {
        arguments_to_text(document);
        api.adapt(document);
        require_all_fields(api, kind, document, &cluster.version)?;
    }
    let documents = [
        with_header(api.name(), "InitConfiguration", init),
        with_header(api.name(), "ClusterConfiguration", configuration),
        with_header("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration", kubelet_configuration(image, clusterfile, cluster)),
        with_header(
            "kubeproxy.config.k8s.io/v1alpha1",
            "KubeProxyConfiguration",
            layered(json!({}), &image.kube_proxy, json!({}), &clusterfile.kube_proxy),
        ),
    ];
    stream(&documents)
}

/// The document for `kubeadm join --config` on another master or on a worker. Contains secrets.
///
/// # Errors
/// `Usage` if the version is not one of Kubernetes, or its kubeadm does not have a field of the documents.
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
    let mut configuration = layered(json!({}), &image.cluster, json!({}), &clusterfile.cluster);
    api.move_health_timeout(&mut configuration, &mut join);
    arguments_to_text(&mut join);
    api.adapt(&mut join);
    require_all_fields(api, "JoinConfiguration", &join, &cluster.version)?;
    stream(&[with_header(api.name(), "JoinConfiguration", join)])
}

/// Refuses what this kubeadm would lose: it only warns of fields that it does not have.
fn require_all_fields(api: ApiVersion, kind: &str, document: &Value, version: &str) -> Result<()> {
    match api.lost_fields(document).as_slice() {
        [] => Ok(()),
        lost => Err(Failure::usage(format!("kubeadm of Kubernetes {version} does not have {} of {kind}", lost.join(", ")))
            .hint("remove it from the Clusterfile, or from `etc/kubeadm.yml` of the image; kubeadm has it since Kubernetes 1.31 (v1beta4)")
            .into()),
    }
}

/// The pod and service networks of a cluster. Precedence: kubeadm documents of the Clusterfile, `overrides`, image, built-in.
pub fn networks(image: &KubeadmDocuments, clusterfile: &KubeadmDocuments, overrides: &Networks) -> Networks {
    let of = |documents: &KubeadmDocuments| documents.cluster.as_ref().map(networks_of).unwrap_or_default();
    let (image, clusterfile, built_in) = (of(image), of(clusterfile), networks_of(&built_in_cluster()));
    let first = |lists: [&Vec<ipnet::IpNet>; 4]| lists.into_iter().find(|list| !list.is_empty()).cloned().unwrap_or_default();
    Networks {
        pods: first([&clusterfile.pods, &overrides.pods, &image.pods, &built_in.pods]),
        services: first([&clusterfile.services, &overrides.services, &image.services, &built_in.services]),
    }
}

/// The defaults, which are those of Sealer's images.
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

/// Removes `etcd-servers`: in Sealer's images it is a placeholder that Sealer replaces.
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
    if cluster.dns_disabled {
        overlay(&mut values, &json!({ "dns": { "disabled": true } }));
    }
    if let Some(repository) = &cluster.image_repository {
        overlay(&mut values, &json!({ "imageRepository": repository }));
    }
    values
}

/// The union of all names and addresses of the API server's certificate.
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

/// Sets `nodeRegistration`: name, CRI socket, address, labels and taints.
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
        node.labels.iter().filter(|(key, _)| kubelet_may_set(key)).map(|(key, value)| format!("{key}={value}")).collect();
    if !labels.is_empty() {
        overlay(document, &json!({ "nodeRegistration": { "kubeletExtraArgs": { "node-labels": labels.join(",") } } }));
    }
    if let Some(taints) = taints(node, release) {
        overlay(document, &json!({ "nodeRegistration": { "taints": taints } }));
    }
}

fn user_socket(document: &Option<Value>) -> Option<String> {
    let socket = document.as_ref()?.pointer("/nodeRegistration/criSocket")?.as_str()?;
    // dockershim's socket comes from examples that copied kubeadm's old defaults
    (!socket.is_empty() && !socket.ends_with("dockershim.sock")).then(|| socket.to_owned())
}

/// Whether a kubelet may set a label on its own node (NodeRestriction).
fn kubelet_may_set(key: &str) -> bool {
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    let within = |domain: &str| prefix == domain || prefix.ends_with(&format!(".{domain}"));
    within("kubelet.kubernetes.io") || within("node.kubernetes.io") || !(within("kubernetes.io") || within("k8s.io"))
}

/// The taints that a node registers with; `None` for kubeadm's default: masters are tainted, workers are not.
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

/// The taints that kubeadm sets on masters: `master` until 1.24, `control-plane` since 1.24.
fn control_plane_taints(release: Release) -> Vec<Value> {
    let taint = |role: &str| json!({ "key": format!("node-role.kubernetes.io/{role}"), "effect": "NoSchedule" });
    let old = (!release.is_at_least(25)).then(|| taint("master"));
    let new = release.is_at_least(24).then(|| taint("control-plane"));
    old.into_iter().chain(new).collect()
}

/// Merges four layers of a document; later ones win.
fn layered(built_in: Value, image: &Option<Value>, computed: Value, clusterfile: &Option<Value>) -> Value {
    let mut document = built_in;
    for layer in [image.as_ref(), Some(&computed), clusterfile.as_ref()].into_iter().flatten() {
        let mut layer = layer.clone();
        arguments_to_maps(&mut layer);
        overlay(&mut document, &layer);
    }
    document
}

fn with_header(api_version: &str, kind: &str, document: Value) -> Value {
    let mut result = json!({ "apiVersion": api_version, "kind": kind });
    for (field, value) in document.as_object().into_iter().flatten().filter(|(field, _)| !["apiVersion", "kind"].contains(&field.as_str()))
    {
        result[field.as_str()] = value.clone();
    }
    result
}

fn stream(documents: &[Value]) -> Result<SecretString> {
    let texts = documents.iter().map(serde_saphyr::to_string).collect::<Result<Vec<_>, _>>().context("kubeadm configuration")?;
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
            dns_disabled: false,
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
    fn init_documents_match_the_api_version_of_each_release() {
        insta::assert_snapshot!("init-1.20", init_for("v1.20.2"));
        insta::assert_snapshot!("init-1.24", init_for("1.24.17"));
        insta::assert_snapshot!("init-1.31", init_for("v1.31.0"));
    }

    #[test]
    fn join_documents_match_the_api_version_of_each_release() {
        insta::assert_snapshot!("join-master-1.20", join_for("v1.20.2", true));
        insta::assert_snapshot!("join-worker-1.20", join_for("v1.20.2", false));
        insta::assert_snapshot!("join-worker-1.24", join_for("v1.24.17", false));
        insta::assert_snapshot!("join-master-1.31", join_for("v1.31.0", true));
    }

    #[test]
    fn the_timeout_of_the_control_plane_holds_for_every_master() {
        let (image, none) = (documents(IMAGE), KubeadmDocuments::default());
        let old = "kind: ClusterConfiguration\napiServer: {timeoutForControlPlane: 9m0s}\n";
        let new = "kind: InitConfiguration\ntimeouts: {controlPlaneComponentHealthCheck: 9m0s}\n---\n\
            kind: JoinConfiguration\ntimeouts: {controlPlaneComponentHealthCheck: 9m0s, discovery: 8m0s}\n";
        let discovery = Discovery::Token { ca_cert_hashes: Vec::new() };
        for (name, text) in [("old", old), ("new", new)] {
            for (version, at_init, at_join) in [
                ("v1.31.0", "timeouts:\n  controlPlaneComponentHealthCheck: 9m0s", true),
                ("v1.24.0", "timeoutForControlPlane: 9m0s", false),
            ] {
                let documents = documents(text);
                let text = init(&image, &documents, &values(version), &node(true)).unwrap().expose_secret().to_owned();
                assert!(text.contains(at_init), "{name} {version}: {text}");
                assert_eq!(text.matches("9m0s").count(), 1, "{name} {version}: {text}");
                let text = join(&image, &documents, &values(version), &node(true), &discovery).unwrap().expose_secret().to_owned();
                assert_eq!(text.contains("controlPlaneComponentHealthCheck: 9m0s"), at_join, "{name} {version}: {text}");
                assert_eq!(
                    text.contains(if at_join { "  discovery: 8m0s" } else { "  timeout: 8m0s" }),
                    name == "new",
                    "{name} {version}: {text}"
                );
            }
        }
        assert!(!join_for("v1.31.0", true).contains("controlPlaneComponentHealthCheck"));
        assert!(join(&image, &none, &values("v1.31.0"), &node(true), &discovery).is_ok());
    }

    #[test]
    fn fields_that_an_older_kubeadm_would_lose_are_refused() {
        let none = KubeadmDocuments::default();
        for (text, expected) in [
            ("kind: ClusterConfiguration\nencryptionAlgorithm: ECDSA-P256\n", "encryptionAlgorithm of ClusterConfiguration"),
            ("kind: ClusterConfiguration\ndns: {disabled: true}\n", "dns.disabled of ClusterConfiguration"),
            ("kind: ClusterConfiguration\ndns: {disabled: false}\n", ""),
            ("kind: InitConfiguration\ntimeouts: {etcdAPICall: 9m0s}\n", "timeouts.etcdAPICall of InitConfiguration"),
            (
                "kind: ClusterConfiguration\napiServer: {extraArgs: [{name: service-account-issuer, value: a}, \
                    {name: service-account-issuer, value: b}]}\n",
                "a second apiServer.extraArgs.service-account-issuer of ClusterConfiguration",
            ),
        ] {
            let result = |version| init(&documents(IMAGE), &documents(text), &values(version), &node(true));
            let error = result("v1.30.0").map(drop).err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(error.is_empty(), expected.is_empty(), "{text}: {error}");
            assert!(error.contains(expected) && !error.contains(','), "{text}: {error}");
            assert!(result("v1.31.0").is_ok(), "{text}");
        }
        assert!(init(&none, &none, &values("v1.30.0"), &node(true)).is_ok());
    }

    #[test]
    fn arguments_that_stand_twice_stay_both() {
        let text = "kind: ClusterConfiguration\napiServer: {extraArgs: [{name: service-account-issuer, value: a}, \
            {name: v, value: 2}, {name: service-account-issuer, value: b}]}\n";
        let text = init(&documents(IMAGE), &documents(text), &values("v1.31.0"), &node(true)).unwrap().expose_secret().to_owned();
        let at = |value: &str| text.find(&format!("name: service-account-issuer\n    value: {value}\n"));
        assert!(at("a").is_some() && at("a") < at("b"), "{text}");
    }

    #[test]
    fn an_image_without_coredns_says_so_to_kubeadm() {
        let none = KubeadmDocuments::default();
        for disabled in [false, true] {
            let cluster = ClusterValues { dns_disabled: disabled, ..values("v1.31.0") };
            let text = init(&none, &none, &cluster, &node(true)).unwrap().expose_secret().to_owned();
            assert_eq!(text.contains("dns:\n  disabled: true\n"), disabled, "{text}");
        }
    }

    #[test]
    fn networks_come_from_the_source_with_the_highest_precedence() {
        let overrides = Networks { pods: vec!["10.1.0.0/16".parse().unwrap()], services: Vec::new() };
        let none = KubeadmDocuments::default();
        let user = documents("kind: ClusterConfiguration\nnetworking: {podSubnet: 10.9.0.0/16}\n");
        let pods = |networks: Networks| networks.pods[0].to_string();
        assert_eq!(pods(networks(&documents(IMAGE), &user, &overrides)), "10.9.0.0/16");
        assert_eq!(pods(networks(&documents(IMAGE), &none, &overrides)), "10.1.0.0/16");
        assert_eq!(pods(networks(&documents(IMAGE), &none, &Networks::default())), "100.64.0.0/10");
        assert_eq!(networks(&none, &none, &Networks::default()).services[0].to_string(), "10.96.0.0/22");
    }

    #[test]
    fn discovery_by_file_has_no_bootstrap_token() {
        let discovery = Discovery::File { path: "/etc/kubernetes/discovery.conf".to_owned() };
        let none = KubeadmDocuments::default();
        let text = join(&none, &none, &values("v1.20.2"), &node(false), &discovery).unwrap();
        let text = text.expose_secret();
        assert!(text.contains("kubeConfigPath: /etc/kubernetes/discovery.conf") && !text.contains("bootstrapToken:"), "{text}");
        assert!(!text.contains("controlPlane"), "{text}");
    }

    #[test]
    fn a_master_that_is_also_a_worker_is_not_tainted() {
        let mut both = node(true);
        both.is_worker = true;
        both.taints.clear();
        let none = KubeadmDocuments::default();
        let text = init(&none, &none, &values("v1.20.2"), &both).unwrap();
        assert!(text.expose_secret().contains("taints: []"), "{}", text.expose_secret());
    }
}
