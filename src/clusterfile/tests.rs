//! What loading a Clusterfile promises, as tables.

use proptest::prelude::{prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as _;

use super::*;
use crate::diagnostic::{Diagnostic, render_all};
use crate::image::Reference;

const GOOD: &str = r#"apiVersion: sealift.io/v1
kind: Cluster
metadata: { name: shop }
spec:
  images: [registry.example.com/base:1, shop:2.1]
  env: [ PodCIDR=100.64.0.0/10, "SvcCIDR=10.96.0.0/22", StorageClass=local, "Text=a=b c" ]
  cmd: [echo up]
  ssh: { user: ops, port: "22", pk: ~/.ssh/id_ed25519, sudo: { passwdFrom: prompt }, jump: me@bastion:2222 }
  hosts:
    - { ips: [10.0.0.2, 10.0.0.3, 10.0.0.4], roles: [master] }
    - { ips: [10.0.0.10-10.0.0.12], roles: [node, db], labels: {disk: ssd, on: true}, taints: ["db=1:NoSchedule"], env: [DataDir=/data, StorageClass=fast] }
    - { ips: [10.0.0.20], roles: [node], ssh: { user: root, port: 2200, passwdFrom: {env: PW} } }
  containerRuntime: { type: containerd }
  registry: { localRegistry: { domain: sea.hub, port: 5001, ha: false, cert: { subjectAltName: { dnsNames: [reg.example], ips: [10.0.0.2] } } } }
  hostAliases: [ { ip: 10.9.9.9, hostnames: [files.example] } ]
  dataRoot: /data/sealift
---
apiVersion: sealift.io/v1
kind: Application
spec:
  launchApps: [web, db]
  configs:
    - name: web
      env: [Port=80]
      launch: { cmds: [make up] }
      files: [ { path: values.yaml, strategy: merge, data: {replicas: 3} } ]
---
kind: Config
apiVersion: sealift.io/v1
metadata: { name: c }
spec: { path: etc/c.yaml, data: "a: 1\n", strategy: merge, process: "value|toBase64", appName: web }
---
kind: ClusterConfiguration
networking: { serviceSubnet: 10.97.0.0/22 }
"#;

fn errors(text: &str) -> Vec<String> {
    messages(text, Diagnostic::is_error)
}

fn warnings(text: &str) -> Vec<String> {
    messages(text, |diagnostic| !diagnostic.is_error())
}

fn messages(text: &str, which: impl Fn(&Diagnostic) -> bool) -> Vec<String> {
    lint("Clusterfile", text).into_iter().filter(which).map(|diagnostic| diagnostic.message).collect()
}

/// A cluster of our own with these lines in its spec.
fn spec(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("  {line}\n")).collect();
    format!("apiVersion: sealift.io/v1\nkind: Cluster\nmetadata: {{name: c}}\nspec:\n{lines}")
}

#[test]
fn a_whole_file_says_what_it_says() {
    let file = load("Clusterfile", GOOD).unwrap();
    let cluster = &file.cluster;
    assert_eq!((cluster.name.as_str(), cluster.images.len(), cluster.hosts.len()), ("shop", 2, 7));
    assert_eq!(cluster.masters().count(), 3);
    let db = cluster.host("10.0.0.11".parse().unwrap()).unwrap();
    assert_eq!((db.env["StorageClass"].as_str(), db.env["Text"].as_str(), db.ssh.user.as_str()), ("fast", "a=b c", "ops"));
    assert_eq!((db.labels["on"].as_str(), db.taints[0].to_string()), ("true", "db=1:NoSchedule".to_owned()));
    let last = cluster.hosts.last().unwrap();
    assert_eq!(
        (last.ssh.user.as_str(), last.ssh.port, last.ssh.passwd_from.clone()),
        ("root", 2200, Some(SecretSource::Env("PW".to_owned())))
    );
    assert_eq!(last.ssh.jump.as_deref(), Some("me@bastion:2222"));
    assert!(matches!(last.ssh.sudo, Some(Sudo { passwd_from: Some(SecretSource::Prompt), .. })));
    assert_eq!(cluster.networks.pods[0].to_string(), "100.64.0.0/10");
    assert_eq!(cluster.networks.services[0].to_string(), "10.97.0.0/22");
    let registry = cluster.registry.local.as_ref().unwrap();
    assert_eq!((registry.port, registry.ha, registry.cert_sans.len()), (5001, false, 2));
    assert_eq!(file.application.cmds.as_deref(), Some(&["echo up".to_owned()][..]));
    assert_eq!(file.application.config("web").unwrap().files[0].data, "replicas: 3\n");
    assert_eq!(file.configs[0].process, [Process::Value, Process::ToBase64]);
    let image = Env::from([("StorageClass".to_owned(), "slow".to_owned()), ("Only".to_owned(), "image".to_owned())]);
    assert_eq!(db.merge_image_env(&image)["StorageClass"], "fast");
    assert_eq!(cluster.merge_image_env(&image)["Only"], "image");
    assert_eq!(file.unsupported(), ["dataRoot `/data/sealift`"]);
}

#[test]
fn a_registry_user_whose_password_is_not_known_is_refused_before_a_run() {
    let hosts = "image: a\nhosts: [{ips: [10.0.0.2], roles: [master]}]\n";
    for (field, expected) in [
        ("registry: {localRegistry: {username: u}}", Some("registry.localRegistry: the password of `u` is not known here")),
        ("registry: {localRegistry: {username: u, password: p}}", None),
        ("registry: {localRegistry: {password: p}}", Some("registry.localRegistry: a password without a user")),
        ("registry: {externalRegistry: {domain: r.example, username: u}}", Some("registry.externalRegistry: the password of `u`")),
        ("registry: {externalRegistry: {domain: r.example}}", None),
    ] {
        let loaded = load("Clusterfile", &spec(&format!("{hosts}{field}"))).unwrap();
        let refused = loaded.require_runnable().err().map(|error| error.to_string());
        assert_eq!(refused.is_some(), expected.is_some(), "{field}: {refused:?}");
        assert!(refused.unwrap_or_default().contains(expected.unwrap_or_default()), "{field}");
        assert!(!loaded.to_yaml().unwrap().contains("password: p"), "{field}");
    }
    let asked =
        load("Clusterfile", &spec(&format!("{hosts}registry: {{localRegistry: {{username: u, passwordFrom: {{env: PW}}}}}}"))).unwrap();
    assert!(asked.to_yaml().unwrap().contains("PW"));
}

#[test]
fn fields_that_nothing_carries_out_are_refused_by_name_and_warned_of_at_their_place() {
    let hosts = "image: a\nhosts: [{ips: [10.0.0.2], roles: [master]}]\n";
    for (field, expected) in
        [("dataRoot: /data", "dataRoot `/data`"), ("containerRuntime: {type: docker}", "containerRuntime.type `docker`")]
    {
        let text = spec(&format!("{hosts}{field}"));
        let refused = load("Clusterfile", &text).unwrap().require_runnable().unwrap_err().to_string();
        assert!(refused.contains(&format!("{expected} is not carried out yet")), "{field}: {refused}");
        let found = lint("Clusterfile", &text);
        let warned = found.iter().find(|found| found.message == format!("{expected} is not carried out yet")).unwrap();
        assert!(!warned.is_error() && warned.span.start > text.find(hosts.lines().last().unwrap()).unwrap(), "{field}: {warned:?}");
    }
    let fine = "dataRoot: /var/lib/sealift/data\ncontainerRuntime: {type: containerd}\nregistry: {localRegistry: {domain: a.b, port: 1}, externalRegistry: {domain: r.example}}";
    assert!(load("Clusterfile", &spec(&format!("{hosts}{fine}"))).unwrap().require_runnable().is_ok());
}

#[test]
fn what_is_written_loads_back_equal() {
    let first = load("Clusterfile", GOOD).unwrap();
    let text = first.to_yaml().unwrap();
    let mut second = load("written", &text).unwrap();
    second.warnings.clone_from(&first.warnings);
    assert_eq!(format!("{second:#?}"), format!("{first:#?}"));
    assert_eq!(second.to_yaml().unwrap(), text);
}

#[test]
fn passwords_are_not_written_and_not_shown() {
    let text = spec(
        "image: a\nssh: {passwd: Geheim1, pkPasswd: Geheim2, sudo: {passwd: Geheim3}}\nhosts:\n- {ips: [10.0.0.2], roles: [master], ssh: {passwd: 1234567}}\nregistry: {localRegistry: {username: u, password: Geheim4}}",
    );
    let file = load("Clusterfile", &text).unwrap();
    assert_eq!(file.warnings.len(), 5, "{:?}", file.warnings);
    let wrong = load("Clusterfile", &text.replace("image: a", "image: A")).unwrap_err();
    for text in [file.to_yaml().unwrap(), format!("{file:?}"), format!("{wrong:#}")] {
        assert!(!text.contains("Geheim") && !text.contains("1234567"), "{text}");
    }
    use secrecy::ExposeSecret as _;
    assert_eq!(file.cluster.hosts[0].ssh.passwd.as_ref().unwrap().expose_secret(), "1234567");
}

#[test]
fn everything_wrong_is_reported_at_once_with_its_place() {
    let text = spec(
        "image: Shop:1
imaeg: x
env: [A=1, B, PodCIDR=10.96.0.0/16, SvcCIDR=10.96.4.0/22]
ssh: {port: 99999, passwdFrom: {env: A, file: b}}
hosts:
- {ips: [10.0.0.2, 10.0.0.2], roles: [mastre]}
- {ips: [10.0.0.300, fd00::1], roles: [node], taints: [\"db=1\"], labels: {\"a b\": c}}
dataRoot: data",
    );
    insta::assert_snapshot!(render_all(&lint("Clusterfile", &text), &text, false));
}

#[test]
fn each_mistake_has_its_message() {
    let host = "hosts:\n- {ips: [10.0.0.2], roles: [master]}\n";
    let cases = [
        ("", "the file holds no document"),
        ("kind: Clutser\napiVersion: sealift.io/v1\n", "unknown kind `Clutser`"),
        ("apiVersion: sealift.io/v2\nkind: Cluster\n", "unknown apiVersion `sealift.io/v2`"),
        ("a: b\n", "a document without `kind`"),
        ("- a\n", "a document that is not a mapping"),
        ("kind: Cluster\n---\nkind: Cluster\n", "a second `Cluster` document"),
        ("kind: Cluster\nspec: {hosts: [{ips: [1.2.3.4], roles: [node]}]}\n", "no master: no host has the role `master`"),
        ("kind: Cluster\nspec: {env: [HTTP_PROXY]}\n", "env `HTTP_PROXY` has no `=`"),
        ("kind: Cluster\nkind: Cluster\n", "duplicate key `kind`"),
        ("kind: Cluster\nmetadata: {name: ../x}\n", "bad cluster name"),
        ("kind: Cluster\nspec: {ssh: {passwd: x, encrypted: true}}\n", "passwords encrypted by Sealer are not supported"),
        ("kind: Cluster\nspec: {ssh: {passwd: x, passwdFrom: prompt}}\n", "`passwd` and `passwdFrom` exclude each other"),
        ("kind: Cluster\nspec: {ssh: {jump: '-oProxyCommand=x'}}\n", "is not a host to go through"),
        ("kind: Cluster\nspec: {image: a, images: [b]}\n", "`image` and `images` exclude each other"),
        ("kind: Cluster\nspec: {registry: {externalRegistry: {port: 5}}}\n", "`externalRegistry` needs a `domain`"),
        ("kind: Cluster\nspec: {registry: {localRegistry: {domain: 'a b'}}}\n", "`a b` is not a host name"),
        ("kind: Cluster\nspec: {hostAliases: [{ip: x, hostnames: [a]}]}\n", "`x` is not an IP address"),
        ("kind: Cluster\nspec: {hosts: [{ips: [10.0.0.2-10.0.0.1], roles: [master]}]}\n", "comes after"),
        ("kind: Cluster\nspec: {hosts: [{ips: [127.0.0.1], roles: [master]}]}\n", "not an address that other hosts can reach"),
        ("kind: Cluster\nspec: {hosts: [{ips: [1.2.3.4, fd00::1], roles: [master]}]}\n", "all hosts need addresses of one family"),
        ("kind: Config\nspec: {path: '', data: x}\n", "config has no `path`"),
        ("kind: Config\nspec: {path: ../../etc/passwd, data: x}\n", "is outside of the image"),
        ("kind: Config\nspec: {path: a, data: x, strategy: append}\n", "unknown strategy `append`"),
        ("kind: Config\nspec: {path: a, data: x, process: value|toYaml}\n", "unknown process step `toYaml`"),
        ("kind: Config\nspec: {path: a}\n", "config has no `data`"),
        ("kind: ClusterConfiguration\nnetworking: {podSubnet: 10.0.0.0}\n", "is not a network"),
        ("kind: ClusterConfiguration\nnetworking: {podSubnet: '10.1.0.0/16,10.2.0.0/16'}\n", "at most one of each address family"),
    ];
    for (text, expected) in cases {
        let errors = errors(text);
        assert!(errors.iter().any(|message| message.contains(expected)), "{text:?}: {errors:?}");
    }
    let overlap = format!("kind: Cluster\nspec:\n  env: [PodCIDR=10.0.0.0/8]\n  {}", host.replace('\n', "\n  "));
    assert_eq!(errors(&overlap), ["pod network 10.0.0.0/8 holds the address of host 10.0.0.2"]);
}

#[test]
fn each_oddity_has_its_warning() {
    let cases = [
        ("kind: Cluster\n", "no hosts specified"),
        ("kind: Cluster\nspec: {hosts: [{ips: [1.2.3.4-1.2.3.5], roles: [master]}]}\n", "2 masters: etcd with 2 members"),
        ("kind: Cluster\nspec: {hosts: [{ips: [1.2.3.4], roles: [master]}, {ips: [1.2.3.5], roles: [db]}]}\n", "joins as a worker"),
        ("kind: Cluster\nspec: {hosts: [{ips: [1.2.3.4], roles: [master, nodes]}]}\n", "role `nodes` is only a label"),
        ("kind: Cluster\nspec: {Image: a}\n", "field `Image` is written `image`"),
        ("kind: Cluster\nspec: {env: {A: 1}}\n", "`env` is a mapping"),
        ("kind: Cluster\nspec: {env: [A=1, A=2]}\n", "env `A` is set twice"),
        ("kind: Cluster\nspec: {env: [HostIP=1]}\n", "env `HostIP` is set by sealift"),
        ("kind: Cluster\nspec: {cmd_args: [a]}\n", "`cmd_args` is not used"),
        ("kind: Cluster\nspec: {provider: ALI_CLOUD}\n", "provider `ALI_CLOUD`: sealift makes no machines"),
        (
            "kind: Cluster\nspec: {hostAliases: [{ip: 10.0.0.1, hostnames: [a]}, {ip: 10.0.0.2, hostnames: [a]}]}\n",
            "`a` has the address 10.0.0.1 already: 10.0.0.2 is left out",
        ),
        ("kind: Infra\n", "unknown kind `Infra`, not used"),
        ("apiVersion: example.com/v1\nkind: Cluster\n", "unknown apiVersion `example.com/v1`"),
        ("kind: Plugin\nmetadata: {name: p}\nspec: {type: SHELL, action: PreInstal, data: x}\n", "unknown phase `PreInstal`"),
        ("kind: Storage\nmetadata: {name: s}\n", "Storage `s` is not carried out yet"),
        (
            "kind: Application\nspec: {launchApps: [a], configs: [{name: b}]}\n",
            "application `b` has settings, but `launchApps` does not list it",
        ),
    ];
    for (text, expected) in cases {
        let (warnings, errors) = (warnings(text), errors(text));
        assert!(errors.is_empty(), "{text:?}: {errors:?}");
        assert!(warnings.iter().any(|message| message.contains(expected)), "{text:?}: {warnings:?}");
    }
}

#[test]
fn scalars_are_read_as_they_are_written() {
    let text = "kind: Cluster\nspec:\n  ssh: {user: 007, port: '0022', passwd: 0123}\n  env: [A=1, true=x]\n  hosts:\n  - ips: 10.0.0.2\n    roles: master\n    labels: {v: 1.10}\n";
    let file = load("Clusterfile", text).unwrap();
    use secrecy::ExposeSecret as _;
    assert_eq!((file.cluster.ssh.user.as_str(), file.cluster.ssh.port), ("007", 22));
    assert_eq!(file.cluster.ssh.passwd.as_ref().unwrap().expose_secret(), "0123");
    assert_eq!(file.cluster.hosts[0].labels["v"], "1.10");
}

#[test]
fn sealer_v1_becomes_the_same_cluster() {
    let text = "apiVersion: sealer.aliyun.com/v1alpha1\nkind: Cluster\nspec:\n  provider: BAREMETAL\n  network: {podCIDR: 100.64.0.0/10, svcCIDR: 10.96.0.0/22}\n  certSANS: [a.example]\n  masters: {ipList: [10.0.0.2]}\n  nodes: {ipList: [10.0.0.3, 10.0.0.4-10.0.0.5]}\n";
    let file = load("Clusterfile", text).unwrap();
    assert_eq!((file.cluster.masters().count(), file.cluster.workers().count()), (1, 3));
    assert_eq!(file.cluster.networks.pods[0].to_string(), "100.64.0.0/10");
    assert_eq!((file.cluster.hosts[0].env["SvcCIDR"].as_str(), file.cluster.cert_sans[0].as_str()), ("10.96.0.0/22", "a.example"));
    assert!(errors(&text.replace("sealer.aliyun.com/v1alpha1", "sealift.io/v1"))[0].contains("is a field of Sealer v1"));
}

#[test]
fn flags_make_the_document_and_go_over_it() {
    let flags = Overrides {
        image: Some("shop:3".to_owned()),
        masters: Some("10.1.0.2".to_owned()),
        nodes: Some("10.1.0.5-10.1.0.6,10.1.0.9".to_owned()),
        env: vec!["A=2".to_owned()],
        port: Some(2222),
        apps: Some(vec![String::new()]),
        ..Overrides::default()
    };
    let made = flags.apply(Clusterfile::default()).unwrap();
    insta::assert_snapshot!(made.to_yaml().unwrap(), @r#"
    apiVersion: sealift.io/v1
    kind: Cluster
    metadata:
      name: my-cluster
    spec:
      image: shop:3
      env:
      - A=2
      ssh:
        port: "2222"
      hosts:
      - ips:
        - "10.1.0.2"
        roles:
        - master
      - ips:
        - "10.1.0.5"
        - "10.1.0.6"
        - "10.1.0.9"
        roles:
        - node
      registry:
        localRegistry:
          domain: sea.hub
          port: "5000"
          ha: true
          insecure: false
      dataRoot: /var/lib/sealift/data
    ---
    apiVersion: sealift.io/v1
    kind: Application
    metadata: {}
    spec:
      launchApps: []
    "#);
    let over = Overrides { masters: None, nodes: Some("10.0.0.30".to_owned()), env: vec!["StorageClass=z".to_owned()], ..flags.clone() };
    let file = over.apply(load("Clusterfile", GOOD).unwrap()).unwrap();
    let storage_of = |address: &str| file.cluster.host(address.parse().unwrap()).unwrap().env["StorageClass"].clone();
    assert_eq!((file.cluster.images[0].as_str(), file.cluster.hosts.len()), ("shop:3", 8));
    assert_eq!((storage_of("10.0.0.2"), storage_of("10.0.0.10"), storage_of("10.0.0.30")), ("z".into(), "fast".into(), "z".into()));
    assert!(file.cluster.hosts.iter().all(|host| host.ssh.port == 2222));
}

#[test]
fn wrong_flags_are_usage_errors_that_name_all_of_it() {
    let flags = Overrides {
        name: Some("a/b".to_owned()),
        image: Some("Shop:1".to_owned()),
        masters: Some("10.0.0.2,10.0.0.2,x".to_owned()),
        nodes: Some("10.0.0.2".to_owned()),
        env: vec!["A".to_owned()],
        ..Overrides::default()
    };
    let error = flags.apply(load("Clusterfile", GOOD).unwrap()).unwrap_err();
    assert_eq!(crate::error::kind_of(&error), crate::error::Kind::Usage);
    let error = error.to_string();
    for expected in ["bad cluster name", "Shop:1", "env `A` has no `=`", "`x` is not an IP address", "10.0.0.2 is listed twice"] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let nothing = Clusterfile::default().require_runnable().unwrap_err().to_string();
    assert!(nothing.contains("no hosts specified") && nothing.contains("image"), "{nothing}");
    assert!("Shop:1".parse::<Reference>().is_err());
}

/// Pieces that Clusterfiles are made of, to be shuffled.
fn scraps() -> impl proptest::strategy::Strategy<Value = String> {
    let pieces = vec![
        "kind: Cluster\n",
        "spec:\n",
        "  hosts:\n",
        "  - ips: [10.0.0.2-10.0.0.9, ::1]\n",
        "    roles: [master, 1, ~]\n",
        "  ssh: {port: 1, sudo: [], passwdFrom: {}}\n",
        "---\n",
        "&a ",
        "*a\n",
        "<<: *a\n",
        "  env:\n",
        "  - A=\n",
        "  masters: {ipList: [x, 1.1.1.1]}\n",
        "  network: 5\n",
        "kind: Config\n",
        "  data: {a: [1, 2]}\n",
        "  taints: [':', '-', 'a=b:NoSchedule-']\n",
        "kind: ClusterConfiguration\n",
        "networking: {podSubnet: '::/0,0.0.0.0/0'}\n",
        "ü: \"\\u0000\"\n",
        "\t",
        "? [a]\n",
        "!!binary x\n",
        "'",
        "  image: [x]\n",
        "...\n",
        "kind: Application\nspec: {configs: [~, {name: 1, files: [{}]}]}\n",
    ];
    proptest::collection::vec(proptest::sample::select(pieces), 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn loading_never_panics(text in prop_oneof![scraps(), "\\PC{0,80}", "[a-z:\\[\\]{}&*!|>'\"%@` \n-]{0,60}"]) {
        for diagnostic in lint("Clusterfile", &text) {
            prop_assert!(diagnostic.span.end <= text.len(), "{diagnostic:?}");
            diagnostic.render(&text, false);
        }
        prop_assert_eq!(masked(&text).len(), text.len());
        if let Ok(file) = load("Clusterfile", &text) {
            file.to_yaml().unwrap();
        }
    }
}
