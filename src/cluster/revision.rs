//! What was applied to a cluster, run by run: kept on every control plane node, and for Kubernetes in the cluster, without secrets.
//!
//! On hosts `/var/lib/sealift/clusters/<name>/revisions/<number>.json`, the newest 20; in the cluster the Secrets
//! `kube-system/sealift-revision-<number>`, the newest 10, gzipped. A run that changes nothing makes no revision.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{DesiredState, ImageContent};
use crate::atomic_file;
use crate::events::Context;
use crate::host::{Exec, Host};
use crate::image::Digest;
use crate::paths;
use crate::program_output;

/// The highest number that is taken for one: a higher one is damage, and nothing could follow it.
const MAX_NUMBER: u64 = u32::MAX as u64;
/// How many revisions a host keeps.
const KEPT: u64 = 20;
/// How many revisions the cluster keeps.
const KEPT_IN_CLUSTER: u64 = 10;
/// The most bytes of a revision in the cluster: `kubectl apply` keeps it in an annotation too, in base64, and those have at most 256 KiB.
const MAX_IN_CLUSTER: usize = 128 << 10;
/// How kubectl is called on a control plane node.
const KUBECTL: &str =
    "kubectl --cache-dir=/var/lib/sealift/kubectl --kubeconfig=/etc/kubernetes/admin.conf --request-timeout=10s --namespace=kube-system";

/// What a run applied to a cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Revision {
    /// Its number, from 1.
    pub number: u64,
    /// The cluster's name.
    pub cluster: String,
    /// When the run ended.
    pub time: Timestamp,
    /// The command: `run`, `apply`, `scale`.
    pub command: String,
    /// Who ran it: user, machine, process.
    pub by: String,
    /// The version of sealift.
    pub sealift: String,
    /// `done`, `failed` or `interrupted`.
    pub result: String,
    /// How many things were to be changed.
    pub changes: usize,
    /// The images.
    pub images: Vec<RevisionImage>,
    /// The Clusterfile, its secrets sealed.
    pub clusterfile: String,
    /// The digests of what was rendered: files of the image that the Clusterfile or a template changes, kubeadm's configuration.
    pub settings: BTreeMap<String, String>,
    /// The plan that was carried out, as `sealift plan -o json` prints it.
    pub plan: Value,
}

/// An image of a revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionImage {
    /// Its name.
    pub name: String,
    /// The digest of its index or manifest.
    pub digest: String,
}

/// What a run did, as far as the desired state does not say it.
#[derive(Debug, Clone)]
pub struct Applied<'a> {
    /// The command: `run`, `apply`, `scale`.
    pub command: &'a str,
    /// Who ran it.
    pub by: &'a str,
    /// `done`, `failed` or `interrupted`.
    pub result: &'a str,
    /// How many things were to be changed.
    pub changes: usize,
    /// The plan.
    pub plan: Value,
}

impl Revision {
    /// The revision after `before`, whose numbers count and nothing else.
    pub fn next(before: &[Revision], desired: &DesiredState, applied: Applied<'_>) -> Result<Revision> {
        let image = |image: &ImageContent| anyhow::Ok(RevisionImage { name: image.name.familiar(), digest: image.digest()?.to_string() });
        Ok(Revision {
            number: 1 + before.iter().map(|revision| revision.number).max().unwrap_or(0),
            cluster: desired.name().to_owned(),
            time: Timestamp::now(),
            command: applied.command.to_owned(),
            by: applied.by.to_owned(),
            sealift: env!("CARGO_PKG_VERSION").to_owned(),
            result: applied.result.to_owned(),
            changes: applied.changes,
            images: images(desired).map(image).collect::<Result<_>>()?,
            clusterfile: desired.stored_clusterfile.clone(),
            settings: settings(desired),
            plan: applied.plan,
        })
    }

    /// The same without control characters in what is shown of it: whoever can write to a host can write a revision.
    fn printable(self) -> Revision {
        let clean = |text: String| program_output::printable(&text).into_owned();
        let image = |image: RevisionImage| RevisionImage { name: clean(image.name), digest: clean(image.digest) };
        Revision {
            cluster: clean(self.cluster),
            command: clean(self.command),
            by: clean(self.by),
            sealift: clean(self.sealift),
            result: clean(self.result),
            images: self.images.into_iter().map(image).collect(),
            clusterfile: clean(self.clusterfile),
            settings: self.settings.into_iter().map(|(name, digest)| (clean(name), clean(digest))).collect(),
            ..self
        }
    }

    /// The hosts in its Clusterfile, as far as that can be read: addresses and roles.
    pub fn hosts(&self) -> BTreeMap<String, String> {
        let hosts = crate::clusterfile::load("revision", &self.clusterfile).map(|file| file.cluster.hosts).unwrap_or_default();
        hosts.iter().map(|host| (host.address.to_string(), host.roles.join(","))).collect()
    }

    /// Writes it to a directory of this machine, and deletes the oldest ones there.
    pub fn save(&self, directory: &Path) -> Result<()> {
        atomic_file::write(&directory.join(format!("{}.json", self.number)), &serde_json::to_vec(self)?, 0o600)?;
        for revision in Revision::load_all(directory).iter().filter(|revision| revision.number + KEPT <= self.number) {
            std::fs::remove_file(directory.join(format!("{}.json", revision.number))).ok();
        }
        Ok(())
    }

    /// The revisions in a directory of this machine, the newest last.
    pub fn load_all(directory: &Path) -> Vec<Revision> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let files = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        sorted(files.filter_map(|path| serde_json::from_slice(&std::fs::read(path).ok()?).ok()))
    }
}

/// The revisions in texts of JSON, the newest last, and how many of the texts are none.
fn parse<'a>(texts: impl Iterator<Item = &'a [u8]>) -> (Vec<Revision>, usize) {
    let (mut found, mut damaged) = (Vec::new(), 0);
    for text in texts.filter(|text| !text.trim_ascii().is_empty()) {
        match serde_json::from_slice::<Revision>(text) {
            Ok(revision) if is_numbered(&revision) => found.push(revision),
            _ => damaged += 1,
        }
    }
    (sorted(found.into_iter()), damaged)
}

fn is_numbered(revision: &Revision) -> bool {
    (1..=MAX_NUMBER).contains(&revision.number)
}

fn sorted(revisions: impl Iterator<Item = Revision>) -> Vec<Revision> {
    let mut revisions: Vec<Revision> = revisions.filter(is_numbered).map(Revision::printable).collect();
    revisions.sort_by_key(|revision| revision.number);
    revisions.dedup_by_key(|revision| revision.number);
    revisions
}

/// The image that brings the cluster, and those with more applications.
fn images(desired: &DesiredState) -> impl Iterator<Item = &ImageContent> {
    std::iter::once(&desired.image).chain(&desired.app_images)
}

/// The digests of what is rendered for the hosts.
fn settings(desired: &DesiredState) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    for (image, part) in images(desired).flat_map(|image| image.parts.iter().map(move |part| (image, part))) {
        for (path, content) in &part.overridden {
            let name = format!("{} of {} ({})", path.display(), image.name.repository(), part.platform.architecture());
            settings.insert(name, Digest::of(content).to_string());
        }
    }
    for host in &desired.hosts {
        if let Some(kubeadm) = &host.kubeadm {
            settings.insert(format!("kubeadm of {}", host.address()), Digest::of(kubeadm.bytes()).to_string());
        }
    }
    settings
}

/// Prints the revisions of `$Cluster`, one a line.
const READ: &str = r#"cd "$Home/$Cluster/revisions" 2>/dev/null || exit 0
for file in *.json; do [ -f "$file" ] || continue; cat "$file"; echo; done"#;

/// Writes stdin as revision `$Number` of `$Cluster`, and deletes those before `$First`.
const WRITE: &str = r#"set -eu
umask 077
# a host is known as one of the cluster by its directory
[ -d "$Home/$Cluster" ] || exit 0
mkdir -p "$Home/$Cluster/revisions"
cd "$Home/$Cluster/revisions"
trap 'rm -f ".new-$$"' EXIT
cat >".new-$$"
sync ".new-$$" 2>/dev/null || true
mv ".new-$$" "$Number.json"
for file in *.json; do
    number=${file%.json}
    case $number in '' | *[!0-9]*) continue ;; esac
    [ "$number" -ge "$First" ] || rm -f "$file"
done"#;

/// The revisions that a host has, the newest last.
///
/// # Errors
/// Fails if the host cannot be asked.
pub async fn read(host: &Host, cluster: &str, ctx: &Context) -> Result<Vec<Revision>> {
    let command = Exec::shell(READ).env("Home", paths::CLUSTERS).env("Cluster", cluster).quiet();
    let output = host.exec(&command, ctx).await?.ensure_success("read revisions")?;
    let (revisions, damaged) = parse(output.stdout.split(|byte| *byte == b'\n'));
    if damaged > 0 {
        let place = format!("{}/{cluster}/revisions", paths::CLUSTERS);
        ctx.warn(format!("{} ({}): damaged revisions in {place}, which are ignored: {damaged}", host.name(), host.address()));
    }
    Ok(revisions)
}

/// Writes a revision to every one of `hosts`, and deletes the oldest ones there. Returns an error for each host where that failed.
pub async fn write(hosts: &[&Host], revision: &Revision, ctx: &Context) -> Vec<anyhow::Error> {
    let Ok(text) = serde_json::to_vec(revision) else { return Vec::new() };
    let first = revision.number.saturating_sub(KEPT - 1).to_string();
    let command = Exec::shell(WRITE)
        .env("Home", paths::CLUSTERS)
        .env("Cluster", &revision.cluster)
        .env("Number", &revision.number.to_string())
        .env("First", &first)
        .stdin(text)
        .quiet();
    let writes = hosts.iter().map(|host| async { host.exec(&command, ctx).await?.ensure_success("write the revision").map(drop) });
    join_all(writes).await.into_iter().filter_map(Result::err).collect()
}

/// Writes a revision into the cluster, by kubectl on a control plane node, and deletes the oldest ones there.
///
/// # Errors
/// Fails if the API server does not take it.
pub async fn write_in_cluster(master: &Host, revision: &Revision, ctx: &Context) -> Result<()> {
    let command = Exec::shell(&write_in_cluster_line(revision.number)).stdin(serde_json::to_vec(&object(revision)?)?).quiet();
    master.exec(&command, ctx).await?.ensure_success("kubectl apply revision").map(drop)
}

fn write_in_cluster_line(number: u64) -> String {
    let newest_old = number.saturating_sub(KEPT_IN_CLUSTER);
    // a few more than the one: an earlier run may not have come to it
    let old: String = (newest_old.saturating_sub(4).max(1)..=newest_old).map(|number| format!(" sealift-revision-{number}")).collect();
    let delete = if old.is_empty() { old } else { format!("\n{KUBECTL} delete secret --ignore-not-found{old} >/dev/null") };
    format!("set -e\n{KUBECTL} apply --filename=- >/dev/null{delete}")
}

/// The revisions that the cluster has, by kubectl on a control plane node; the newest last.
///
/// # Errors
/// Fails if the API server does not answer.
pub async fn read_in_cluster(master: &Host, ctx: &Context) -> Result<Vec<Revision>> {
    let line = format!("exec {KUBECTL} get secrets --selector=sealift.io/revision --output=json");
    let output = master.exec(&Exec::shell(&line).quiet(), ctx).await?.ensure_success("kubectl get revisions")?;
    let list: Value = serde_json::from_slice(&output.stdout).context("kubectl get revisions")?;
    Ok(sorted(list["items"].as_array().into_iter().flatten().filter_map(of_object)))
}

/// The Secret of a revision. Where it would be too large, the plan is left out.
fn object(revision: &Revision) -> Result<Value> {
    let mut packed = pack(revision)?;
    if packed.len() > MAX_IN_CLUSTER {
        packed = pack(&Revision { plan: Value::Null, ..revision.clone() })?;
    }
    let number = revision.number.to_string();
    Ok(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "sealift.io/revision",
        "metadata": {
            "name": format!("sealift-revision-{number}"), "namespace": "kube-system", "labels": {"sealift.io/revision": number},
        },
        "data": {"revision": STANDARD.encode(packed)},
    }))
}

fn pack(revision: &Revision) -> Result<Vec<u8>> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(&serde_json::to_vec(revision)?)?;
    Ok(packer.finish()?)
}

fn of_object(object: &Value) -> Option<Revision> {
    let packed = STANDARD.decode(object["data"]["revision"].as_str()?).ok()?;
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&packed[..]).take(64 << 20).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// What differs between two revisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionDifference {
    /// The cluster's name.
    pub cluster: String,
    /// The number of the older one.
    pub before: u64,
    /// The number of the newer one.
    pub after: u64,
    /// Images: name and digest.
    pub images: Vec<Difference>,
    /// Hosts that left or came, or have other roles.
    pub hosts: Vec<Difference>,
    /// Lines of the Clusterfile.
    pub clusterfile: Vec<Difference>,
    /// Rendered settings, by their digests.
    pub settings: Vec<Difference>,
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What it is.
    pub what: String,
    /// How it was; none if it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// How it is; none if it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl RevisionDifference {
    /// Compares two revisions. Pure.
    pub fn new(before: &Revision, after: &Revision) -> Self {
        let images = |revision: &Revision| revision.images.iter().map(|image| (image.name.clone(), image.digest.clone())).collect();
        RevisionDifference {
            cluster: after.cluster.clone(),
            before: before.number,
            after: after.number,
            images: differences(&images(before), &images(after)),
            hosts: differences(&before.hosts(), &after.hosts()),
            clusterfile: line_differences(&before.clusterfile, &after.clusterfile),
            settings: differences(&before.settings, &after.settings),
        }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        [&self.images, &self.hosts, &self.clusterfile, &self.settings].into_iter().all(Vec::is_empty)
    }
}

fn differences(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<Difference> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differ = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    differ.map(|name| Difference { what: name.clone(), before: before.get(name).cloned(), after: after.get(name).cloned() }).collect()
}

/// The lines that only one of two texts has, in the order of the texts, by a longest common subsequence.
fn line_differences(before: &str, after: &str) -> Vec<Difference> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    // lengths of the longest common subsequences of what follows
    let mut common = vec![vec![0_u32; new.len() + 1]; old.len() + 1];
    for at in (0..old.len()).rev() {
        for to in (0..new.len()).rev() {
            common[at][to] = if old[at] == new[to] { common[at + 1][to + 1] + 1 } else { common[at + 1][to].max(common[at][to + 1]) };
        }
    }
    let (mut at, mut to, mut found) = (0, 0, Vec::new());
    let line = |line: &str, is_old: bool| {
        let text = shortened(line);
        let (before, after) = if is_old { (Some(text), None) } else { (None, Some(text)) };
        Difference { what: "line".to_owned(), before, after }
    };
    while at < old.len() || to < new.len() {
        if at < old.len() && to < new.len() && old[at] == new[to] {
            (at, to) = (at + 1, to + 1);
        } else if to == new.len() || (at < old.len() && common[at + 1][to] >= common[at][to + 1]) {
            found.push(line(old[at], true));
            at += 1;
        } else {
            found.push(line(new[to], false));
            to += 1;
        }
    }
    found
}

/// A line without what is sealed in it: nobody reads that, but that it changed is worth a line.
fn shortened(line: &str) -> String {
    match line.split_once("sealed:v1:") {
        Some((before, sealed)) => format!("{before}sealed:{}…", sealed.chars().take(8).collect::<String>()),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn revision(number: u64) -> Revision {
        Revision { number, cluster: "shop".to_owned(), ..Revision::default() }
    }

    /// Runs a script of this module as a host does.
    fn script(script: &str, home: &Path, env: &[(&str, String)], stdin: &[u8]) -> String {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("Home", home).env("Cluster", "shop").envs(env.iter().map(|(name, value)| (name, value)));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn kubectl_keeps_its_cache_where_a_reset_removes_it() {
        assert!(KUBECTL.contains(&format!("--cache-dir={} ", crate::paths::KUBECTL_CACHE)));
    }

    #[test]
    fn a_host_keeps_the_newest_twenty_and_gives_them_back() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        assert_eq!(script(READ, home.path(), &[], b""), "");
        let first = [("Number", "1".to_owned()), ("First", "1".to_owned())];
        script(WRITE, home.path(), &first, b"{}");
        assert!(!home.path().join("shop").exists(), "a host that is none of the cluster does not become one");
        std::fs::create_dir(home.path().join("shop")).unwrap();
        for number in 1..=25 {
            let first = 25_u64.saturating_sub(KEPT - 1).min(number);
            let env = [("Number", number.to_string()), ("First", first.to_string())];
            script(WRITE, home.path(), &env, &serde_json::to_vec(&revision(number)).unwrap());
        }
        let text = script(READ, home.path(), &[], b"");
        let read = sorted(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
        assert_eq!(read.iter().map(|revision| revision.number).collect::<Vec<_>>(), (6..=25).collect::<Vec<_>>());
        let file = home.path().join("shop/revisions/25.json");
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(home.path().join("shop/revisions")).unwrap().count(), 20);
    }

    #[test]
    fn a_cluster_is_given_a_revision_and_loses_those_before_the_newest_ten() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let kubectl = dir.path().join("kubectl");
        let calls = dir.path().join("calls");
        std::fs::write(&kubectl, format!("#!/bin/sh\necho \"$*\" >>{}\ncase $* in *apply*) cat >/dev/null ;; esac\n", calls.display()))
            .unwrap();
        std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", dir.path().display());
        for number in [10, 12] {
            script(&write_in_cluster_line(number), dir.path(), &[("PATH", path.clone())], b"{}");
        }
        let calls = std::fs::read_to_string(calls).unwrap();
        let calls: Vec<&str> = calls.lines().filter_map(|call| Some(call.split_once("--namespace=kube-system ")?.1)).collect();
        let delete = "delete secret --ignore-not-found sealift-revision-1 sealift-revision-2";
        assert_eq!(calls, ["apply --filename=-", "apply --filename=-", delete]);
    }

    #[test]
    fn revisions_with_a_number_that_nothing_can_follow_are_damaged() {
        let text = |number: u64| serde_json::to_vec(&revision(number)).unwrap();
        let texts = [text(3), text(u64::MAX), b"{".to_vec(), Vec::new(), text(0), text(1 << 33), text(2)];
        let (found, damaged) = parse(texts.iter().map(Vec::as_slice));
        assert_eq!((found.iter().map(|revision| revision.number).collect::<Vec<_>>(), damaged), (vec![2, 3], 4));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("9.json"), text(u64::MAX)).unwrap();
        assert_eq!(Revision::load_all(dir.path()), []);
    }

    #[test]
    fn revisions_are_read_without_control_characters() {
        let by = Revision { by: "bob\u{1b}]0;owned\u{7}@desk".into(), clusterfile: "a: 1\n\u{1b}[2Jb: 2\n".into(), ..revision(1) };
        let (found, _) = parse([serde_json::to_vec(&by).unwrap().as_slice()].into_iter());
        assert_eq!((found[0].by.as_str(), found[0].clusterfile.as_str()), ("bob@desk", "a: 1\nb: 2\n"));
    }

    #[test]
    fn this_machine_keeps_the_newest_twenty_too() {
        let dir = tempfile::tempdir().unwrap();
        for number in 1..=22 {
            revision(number).save(dir.path()).unwrap();
        }
        let numbers: Vec<u64> = Revision::load_all(dir.path()).iter().map(|revision| revision.number).collect();
        assert_eq!(numbers, (3..=22).collect::<Vec<_>>());
    }

    #[test]
    fn an_object_in_the_cluster_gives_its_revision_back_and_is_never_too_large() {
        let small = Revision { plan: json!({"stages": [1, 2]}), ..revision(3) };
        let made = object(&small).unwrap();
        assert_eq!(made["metadata"]["name"], "sealift-revision-3");
        assert_eq!(of_object(&made), Some(small));
        let noise: Vec<u8> = (0..MAX_IN_CLUSTER * 2).map(|_| rand::random()).collect();
        let large = Revision { plan: Value::String(hex::encode(noise)), ..revision(4) };
        assert_eq!(of_object(&object(&large).unwrap()).map(|revision| (revision.number, revision.plan)), Some((4, Value::Null)));
    }

    #[test]
    fn revisions_differ_by_images_hosts_lines_and_settings() {
        let clusterfile = |env: &str, last: u8| {
            format!(
                "apiVersion: sealift.io/v1\nkind: Cluster\nspec:\n  image: shop:1\n  env:\n  - {env}\n  hosts:\n  - ips: [10.0.0.1, 10.0.0.{last}]\n    roles: [master]\n"
            )
        };
        let image = |name: &str, digest: &str| vec![RevisionImage { name: name.into(), digest: digest.into() }];
        let settings = |of: &[(&str, &str)]| of.iter().map(|(name, digest)| ((*name).to_owned(), (*digest).to_owned())).collect();
        let before = Revision {
            images: image("shop:1", "a"),
            clusterfile: clusterfile("A=sealed:v1:AAAAAAAAAAAA", 2),
            settings: settings(&[("x", "1"), ("y", "1")]),
            ..revision(3)
        };
        let after = Revision {
            images: image("shop:1", "b"),
            clusterfile: clusterfile("A=sealed:v1:BBBBBBBBBBBB", 3),
            settings: settings(&[("x", "2"), ("y", "1")]),
            ..revision(5)
        };
        let difference = RevisionDifference::new(&before, &after);
        let signs = |list: &[Difference]| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            list.iter().map(|item| format!("{}: {} -> {}", item.what, text(&item.before), text(&item.after))).collect::<Vec<_>>()
        };
        assert_eq!(signs(&difference.images), ["shop:1: a -> b"]);
        assert_eq!(signs(&difference.hosts), ["10.0.0.2: master -> ", "10.0.0.3:  -> master"]);
        assert_eq!(signs(&difference.settings), ["x: 1 -> 2"]);
        assert_eq!(
            signs(&difference.clusterfile),
            [
                "line:   - A=sealed:AAAAAAAA… -> ",
                "line:  ->   - A=sealed:BBBBBBBB…",
                "line:   - ips: [10.0.0.1, 10.0.0.2] -> ",
                "line:  ->   - ips: [10.0.0.1, 10.0.0.3]",
            ]
        );
        assert!(RevisionDifference::new(&before, &before).is_empty() && !difference.is_empty());
    }
}
