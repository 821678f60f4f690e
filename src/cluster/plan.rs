//! The plan: what a run would change, as data. `plan` prints it, `run` and `apply` carry it out.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::stage::{Action, DesiredResource, PURGE, STAGES, Stage, TIDY};
use super::{DesiredState, ObservedState};
use crate::paths::{HOME, REGISTRY_TLS, ROOTFS_CURRENT};
use crate::resource::{Resource, State};

/// What a run would change. Its JSON is the output of `plan -o json`. What it lists is what a run carries out, no more and no less.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The name of the cluster.
    pub cluster: String,
    /// The name of the image.
    pub image: String,
    /// The stages with changes, in the order they run.
    pub stages: Vec<StagePlan>,
    /// The hosts that are not reachable: nothing is changed on them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreachable: Vec<Unreachable>,
}

/// A host that is not reachable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreachable {
    /// Its address.
    pub host: IpAddr,
    /// Why.
    pub why: String,
}

impl Unreachable {
    /// Why, without its address at the beginning: for texts that name the host already.
    pub fn short_why(&self) -> String {
        let address = self.host.to_string();
        let bare = if self.host.is_ipv6() { format!("[{address}]") } else { address.clone() };
        let why = self.why.strip_prefix(&format!("{address}: ")).unwrap_or(&self.why);
        let place = why.strip_prefix(&format!("{bare}:")).and_then(|rest| rest.split_once(": "));
        match place {
            Some(("22", rest)) => rest.to_owned(),
            Some((port, rest)) if port.parse::<u16>().is_ok() => format!("port {port}: {rest}"),
            _ => why.to_owned(),
        }
    }
}

/// What one stage would change.
#[derive(Debug, Clone, Serialize)]
pub struct StagePlan {
    /// The name of the stage. In JSON the stage `distribute` has its older name, `ship`.
    #[serde(serialize_with = "serialize_stage")]
    pub stage: &'static str,
    /// Its changes, in order.
    pub steps: Vec<Step>,
}

/// One change on one host.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// Identifies it in this plan and in the next ones: stage, host, what is changed.
    pub id: String,
    /// The address of the host that it is carried out on.
    pub host: IpAddr,
    /// The title of the resource that is changed, such as `file /etc/hosts`.
    pub what: String,
    /// How it is changed.
    #[serde(flatten)]
    pub change: Change,
    /// What must be done first: steps by their id, and `stage NAME` for all steps of a stage.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// What does not serve meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disrupts: Option<String>,
    /// The host that it is for: steps for the same one are carried out in order.
    #[serde(skip)]
    pub subject: IpAddr,
    /// What is carried out.
    #[serde(skip)]
    pub action: Action,
}

/// How a resource is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum Change {
    /// It is absent and will be created.
    Create,
    /// It has drifted and will be updated.
    Update {
        /// The actual state, short.
        #[serde(rename = "is")]
        actual: String,
        /// The desired state, short.
        #[serde(rename = "shall")]
        desired: String,
    },
    /// It will be removed.
    Remove {
        /// The actual state, short; empty if there is no more to say.
        #[serde(rename = "is", skip_serializing_if = "String::is_empty")]
        actual: String,
    },
    /// Missing blobs will be sent.
    #[serde(rename = "ship")]
    Distribute {
        /// How many blobs are missing.
        blobs: usize,
        /// How many bytes of them are missing.
        bytes: u64,
    },
    /// It is verified once other changes are made, and applied if it has drifted by then.
    Verify,
    /// Its state is unknown: the check failed.
    Unknown {
        /// The error of the check.
        why: String,
    },
}

impl Plan {
    /// The changes that lead from the observed to the desired state. Pure.
    pub fn new(desired: &DesiredState, observed: &ObservedState) -> Plan {
        let mut stages: Vec<StagePlan> = Vec::new();
        for stage in STAGES {
            let steps = steps(stage, desired, observed, &stages);
            if !steps.is_empty() {
                stages.push(StagePlan { stage: stage.name, steps });
            }
        }
        let purge = steps(PURGE, desired, observed, &stages);
        if !purge.is_empty() {
            stages.push(StagePlan { stage: PURGE.name, steps: purge });
        }
        let unreachable = observed.unreachable().to_vec();
        Plan { cluster: desired.name().to_owned(), image: desired.image.name.familiar(), stages, unreachable }
    }

    /// The number of changes.
    pub fn changes(&self) -> usize {
        self.steps().count()
    }

    /// All steps, in the order of the stages.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.stages.iter().flat_map(|stage| &stage.steps)
    }

    /// The steps of a stage.
    pub fn steps_of(&self, stage: &str) -> &[Step] {
        self.stages.iter().find(|planned| planned.stage == stage).map_or(&[], |planned| &planned.steps)
    }

    /// The plan as text for people, one change a line: `+` create, `~` update, `-` remove, `>` send, `=` verify, `?` unknown, `!` a host
    /// that is not reachable.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for stage in &self.stages {
            writeln!(text, "{}", stage.stage).expect("writing to a string");
            for step in &stage.steps {
                let disrupts = step.disrupts.as_ref().map(|what| format!(" ({what})")).unwrap_or_default();
                writeln!(text, "  {} {}  {}{}{disrupts}", step.change.sign(), step.host, step.what, step.change.detail())
                    .expect("writing to a string");
            }
        }
        for host in &self.unreachable {
            writeln!(text, "! {}  {}", host.host, host.short_why()).expect("writing to a string");
        }
        let count = self.changes();
        text + &format!("{count} {} to {}\n", if count == 1 { "change" } else { "changes" }, self.cluster)
    }
}

/// The steps of a stage. `earlier` are the stages before it.
fn steps(stage: &Stage, desired: &DesiredState, observed: &ObservedState, earlier: &[StagePlan]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let resources = if stage.name == TIDY.name { unwanted(desired, observed) } else { stage.reachable_resources(desired) };
    let written = written(&resources);
    for resource in resources {
        let planned = || earlier.iter().flat_map(|stage| &stage.steps).chain(&steps);
        let change = change(&resource, desired, observed)
            .or_else(|| restart(&resource, &written, planned()))
            .or_else(|| verification(stage, &resource, planned().next().is_some()))
            .or_else(|| check_of_another_image(&resource, planned()));
        let Some(change) = change else { continue };
        let id = format!("{}/{}/{}", stage.name, resource.host, resource.action.id());
        let (what, after) = (resource.action.title(), after(stage, resource.subject, &steps, earlier));
        let disrupts = disruption(&resource.action, &change);
        let (host, subject, action) = (resource.host, resource.subject, missing_only(resource.action, resource.host, observed));
        steps.push(Step { id, host, what, change, after, disrupts, subject, action });
    }
    steps
}

/// What was applied on a host and no stage wants there any more, the newest first.
fn unwanted(desired: &DesiredState, observed: &ObservedState) -> Vec<DesiredResource> {
    let resources =
        STAGES.iter().flat_map(|stage| stage.reachable_resources(desired)).map(|resource| (resource.host, resource.action.id()));
    // a registry keeps the certificate that it has, which is no resource then
    let certificates = desired.registry_certificates.keys().map(|host| (*host, format!("file/{REGISTRY_TLS}")));
    let wanted: HashSet<(IpAddr, String)> = resources.chain(certificates).collect();
    let stays = |host: IpAddr| desired.hosts.iter().any(|desired| desired.address() == host && !desired.rejoins);
    let unwanted =
        observed.applied().filter(|(host, applied)| applied.revertible && stays(*host) && !wanted.contains(&(*host, applied.id.clone())));
    let mut unwanted: Vec<DesiredResource> =
        unwanted.map(|(host, applied)| DesiredResource { host, subject: host, action: Action::Revert(applied.clone()) }).collect();
    unwanted.reverse();
    unwanted
}

/// The same action; of blobs only those that are missing.
fn missing_only(action: Action, host: IpAddr, observed: &ObservedState) -> Action {
    match action {
        Action::Distribute(mut blobs) => {
            blobs.retain(|blob| observed.missing(host, &blob.digest).is_some());
            Action::Distribute(blobs)
        }
        other => other,
    }
}

/// What must be done before a step: the step before it for the same host; for the first one of a host in its stage, the stages before and,
/// where hosts are changed one by one, the host before.
pub(super) fn after(stage: &Stage, subject: IpAddr, steps: &[Step], earlier: &[StagePlan]) -> Vec<String> {
    let previous = if stage.one_by_one { steps.last() } else { steps.iter().rfind(|step| step.subject == subject) };
    if let Some(previous) = previous.filter(|previous| previous.subject == subject) {
        return vec![previous.id.clone()];
    }
    let of_subject = steps.iter().rfind(|step| step.subject == subject);
    let before = || earlier.iter().flat_map(|stage| &stage.steps).rfind(|step| step.subject == subject);
    let of_subject = of_subject.or_else(before);
    let stages = stage.after.iter().filter(|name| earlier.iter().any(|planned| planned.stage == **name));
    let steps = of_subject.into_iter().chain(previous).map(|step| step.id.clone());
    steps.chain(stages.map(|name| format!("stage {name}"))).collect()
}

/// What does not serve while a step is carried out.
fn disruption(action: &Action, change: &Change) -> Option<String> {
    let Action::Resource(resource) = action else { return None };
    match (resource, change) {
        (Resource::SystemdUnit(unit), Change::Update { desired, .. }) if desired == RESTARTED_IF_CHANGED => {
            Some(format!("may restart {}", unit.name))
        }
        (Resource::SystemdUnit(unit), Change::Update { .. }) => Some(format!("restarts {}", unit.name)),
        (Resource::DrainedNode(_), _) => Some("evicts its pods".to_owned()),
        _ => None,
    }
}

/// A change elsewhere may break what is verified, and may need time to settle.
fn verification(stage: &Stage, resource: &DesiredResource, changes: bool) -> Option<Change> {
    let is_check = matches!(resource.action, Action::Resource(Resource::Script(_) | Resource::KubeHealth(_)));
    (stage.verifies && changes && is_check).then_some(Change::Verify)
}

/// What the scripts and manifests of the image on a host say is worth nothing once another one is there: then they are asked again.
fn check_of_another_image<'a>(desired: &DesiredResource, mut earlier: impl Iterator<Item = &'a Step>) -> Option<Change> {
    let asks_image = match &desired.action {
        Action::Resource(Resource::Script(script)) => script.directory.starts_with(ROOTFS_CURRENT),
        Action::Resource(Resource::KubeApp(app)) => app.directory.starts_with(ROOTFS_CURRENT),
        _ => false,
    };
    let changes_image =
        |step: &Step| step.host == desired.host && matches!(&step.action, Action::Resource(Resource::Rootfs(rootfs)) if rootfs.current);
    (asks_image && earlier.any(changes_image)).then_some(Change::Verify)
}

/// Scripts read the names of stages: `distribute` stays what it was called first.
fn serialize_stage<S: Serializer>(stage: &&'static str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *stage == "distribute" { "ship" } else { stage })
}

impl Change {
    fn sign(&self) -> char {
        match self {
            Change::Create => '+',
            Change::Update { .. } => '~',
            Change::Remove { .. } => '-',
            Change::Distribute { .. } => '>',
            Change::Verify => '=',
            Change::Unknown { .. } => '?',
        }
    }

    fn detail(&self) -> String {
        match self {
            Change::Create | Change::Verify => String::new(),
            Change::Remove { actual } if actual.is_empty() => String::new(),
            Change::Remove { actual } => format!(": {actual}"),
            Change::Update { actual, desired } => format!(": {actual} -> {desired}"),
            Change::Distribute { bytes, .. } => format!(", {}", indicatif::BinaryBytes(*bytes)),
            Change::Unknown { why } => format!(": {why}"),
        }
    }
}

fn change(resource: &DesiredResource, desired: &DesiredState, observed: &ObservedState) -> Option<Change> {
    // what is undone first is created anew, whatever its state is now
    let anew = desired.hosts.iter().any(|host| host.rejoins && host.address() == resource.host && host.address() == resource.subject);
    match &resource.action {
        Action::Revert(_) | Action::Undo | Action::Purge => Some(Change::Remove { actual: String::new() }),
        Action::Distribute(blobs) => {
            let missing: Vec<u64> = blobs.iter().filter_map(|blob| observed.missing(resource.host, &blob.digest)).collect();
            (!missing.is_empty()).then(|| Change::Distribute { blobs: missing.len(), bytes: missing.iter().sum() })
        }
        Action::Resource(_) if anew => Some(Change::Create),
        Action::Resource(it) => match observed.state(resource.host, it) {
            Some(Ok(State::Present)) => None,
            Some(Ok(State::Absent)) => Some(Change::Create),
            Some(Ok(State::Differs { actual, .. })) if it.is_removal() => Some(Change::Remove { actual: actual.clone() }),
            Some(Ok(State::Differs { actual, desired })) => Some(Change::Update { actual: actual.clone(), desired: desired.clone() }),
            Some(Err(why)) => Some(Change::Unknown { why: why.clone() }),
            None => Some(Change::Unknown { why: "not checked".to_owned() }),
        },
    }
}

/// What is planned for a unit that reads files of an image whose content is not known here, while the host does not have that image yet:
/// the host compares them.
const RESTARTED_IF_CHANGED: &str = "restarted if the image changes files that it reads";

/// A unit without drift is restarted if a file that it reads will change. `written` are the files that are written by themselves, so
/// that they do not come from an image. Where the content of a file of the image is known, the check of the unit has compared it.
fn restart<'a>(desired: &DesiredResource, written: &HashSet<(IpAddr, PathBuf)>, earlier: impl Iterator<Item = &'a Step>) -> Option<Change> {
    let Action::Resource(Resource::SystemdUnit(unit)) = &desired.action else { return None };
    let from_image =
        |path: &PathBuf| !path.starts_with(HOME) && !unit.contents.contains_key(path) && !written.contains(&(desired.host, path.clone()));
    let (mut changes, mut may_change) = (false, false);
    for step in earlier.filter(|step| step.host == desired.host) {
        match &step.action {
            Action::Resource(Resource::HostFiles(_)) => may_change |= unit.inputs.iter().any(from_image),
            Action::Resource(Resource::File(file)) => changes |= unit.inputs.contains(&file.path),
            Action::Resource(Resource::Htpasswd(file)) => changes |= unit.inputs.contains(&file.path),
            _ => {}
        }
    }
    let restarted = |desired: &str| Some(Change::Update { actual: "running".into(), desired: desired.into() });
    match (changes, may_change) {
        (true, _) => restarted("restarted: files that it reads change"),
        (false, true) => restarted(RESTARTED_IF_CHANGED),
        (false, false) => None,
    }
}

/// The files that resources write by themselves.
fn written(resources: &[DesiredResource]) -> HashSet<(IpAddr, PathBuf)> {
    let path = |resource: &DesiredResource| match &resource.action {
        Action::Resource(Resource::File(file)) => Some((resource.host, file.path.clone())),
        _ => None,
    };
    resources.iter().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::image::{Blob, Digest};
    use crate::resource::{File, HostFiles, KubeApp, PathMapping, Rootfs, SystemdUnit};

    #[test]
    fn a_plan_lists_and_counts_its_changes_and_its_json_stays_as_it_was() {
        let host = IpAddr::from([10, 0, 0, 1]);
        let step = |what: &str, change| Step {
            id: format!("stage/{host}/{what}"),
            host,
            what: what.to_owned(),
            change,
            after: Vec::new(),
            disrupts: None,
            subject: host,
            action: Action::Purge,
        };
        let update = Change::Update { actual: "0".into(), desired: "1".into() };
        let plan = Plan {
            cluster: "shop".into(),
            image: "shop:1".into(),
            stages: vec![
                StagePlan { stage: "prepare", steps: vec![step("sysctl a=1", update), step("file /etc/a", Change::Create)] },
                StagePlan { stage: "distribute", steps: vec![step("rootfs", Change::Distribute { blobs: 2, bytes: 3 << 20 })] },
                StagePlan { stage: "remove", steps: vec![step("node h2", Change::Remove { actual: "a node of the cluster".into() })] },
                StagePlan { stage: "verify", steps: vec![step("cluster health", Change::Verify)] },
            ],
            unreachable: vec![Unreachable { host: IpAddr::from([10, 0, 0, 3]), why: "no route to host".into() }],
        };
        insta::assert_snapshot!(plan.text(), @r"
        prepare
          ~ 10.0.0.1  sysctl a=1: 0 -> 1
          + 10.0.0.1  file /etc/a
        distribute
          > 10.0.0.1  rootfs, 3.00 MiB
        remove
          - 10.0.0.1  node h2: a node of the cluster
        verify
          = 10.0.0.1  cluster health
        ! 10.0.0.3  no route to host
        5 changes to shop
        ");
        let json = serde_json::to_value(&plan).unwrap();
        let steps = |stage: usize| json["stages"][stage]["steps"].clone();
        assert_eq!(
            (json["stages"][0]["stage"].as_str(), steps(0)),
            (
                Some("prepare"),
                serde_json::json!([
                    {"id": "stage/10.0.0.1/sysctl a=1", "host": "10.0.0.1", "what": "sysctl a=1", "change": "update", "is": "0", "shall": "1"},
                    {"id": "stage/10.0.0.1/file /etc/a", "host": "10.0.0.1", "what": "file /etc/a", "change": "create"},
                ])
            )
        );
        assert_eq!(
            (json["stages"][1]["stage"].as_str(), steps(1)),
            (
                Some("ship"),
                serde_json::json!([{"id": "stage/10.0.0.1/rootfs", "host": "10.0.0.1", "what": "rootfs", "change": "ship", "blobs": 2, "bytes": 3 << 20}])
            )
        );
    }

    #[test]
    fn what_the_image_on_a_host_says_is_asked_again_where_another_one_comes() {
        let host = IpAddr::from([10, 0, 0, 1]);
        let resource = |resource| DesiredResource { host, subject: host, action: Action::Resource(resource) };
        let rootfs = |current| Resource::Rootfs(Rootfs { manifest: Blob::of(b"new"), current });
        let step = |it: Resource, host: IpAddr| Step {
            id: it.id(),
            host,
            what: it.title(),
            change: Change::Create,
            after: Vec::new(),
            disrupts: None,
            subject: host,
            action: Action::Resource(it),
        };
        let app = |directory: &str| {
            let files = vec!["a.yaml".into()];
            resource(Resource::KubeApp(KubeApp { name: "a".into(), directory: directory.into(), files, timeout_seconds: 1, wait: true }))
        };
        let of_image = app("/var/lib/sealift/rootfs/current/application/apps/a");
        let asked = |resource: &DesiredResource, earlier: Step| check_of_another_image(resource, [earlier].iter()).is_some();
        assert!(asked(&of_image, step(rootfs(true), host)));
        assert!(!asked(&of_image, step(rootfs(true), IpAddr::from([10, 0, 0, 2]))), "another host");
        assert!(!asked(&of_image, step(rootfs(false), host)), "the image of an application beside it");
        assert!(!asked(&app("/var/lib/sealift/rootfs/0123/application/apps/a"), step(rootfs(true), host)), "in a directory of its own");
        assert!(!asked(&resource(rootfs(true)), step(rootfs(true), host)));
    }

    #[test]
    fn an_address_is_not_said_twice() {
        for (host, why, expected) in [
            ("10.0.0.1", "10.0.0.1:22: connection refused", "connection refused"),
            ("10.0.0.1", "10.0.0.1: 10.0.0.1:22: connection refused", "connection refused"),
            ("10.0.0.1", "10.0.0.1:2222: SSH login timed out", "port 2222: SSH login timed out"),
            ("10.0.0.1", "10.0.0.11:22: connection refused", "10.0.0.11:22: connection refused"),
            ("fd00::1", "[fd00::1]:22: connection refused", "connection refused"),
            ("10.0.0.1", "no answer for 60 s", "no answer for 60 s"),
        ] {
            let unreachable = Unreachable { host: host.parse().unwrap(), why: why.to_owned() };
            assert_eq!(unreachable.short_why(), expected, "{why}");
        }
    }

    #[test]
    fn a_unit_is_restarted_only_for_files_that_it_reads() {
        let host = IpAddr::from([10, 0, 0, 1]);
        let resource = |resource| DesiredResource { host, subject: host, action: Action::Resource(resource) };
        let step = |it: Resource| Step {
            id: it.id(),
            host,
            what: it.title(),
            change: Change::Create,
            after: Vec::new(),
            disrupts: None,
            subject: host,
            action: Action::Resource(it),
        };
        let file = |path: &str| Resource::File(File::new(path, "text", 0o644));
        let host_files = Resource::HostFiles(HostFiles {
            manifest: Digest::of(b"new"),
            env: BTreeMap::new(),
            mappings: PathMapping::of_sealift_images(),
        });
        let unit = |name: &str, inputs: &[&str]| resource(Resource::SystemdUnit(SystemdUnit::running(name, inputs)));
        let registry = unit("registry.service", &["/etc/systemd/system/registry.service", REGISTRY_TLS]);
        let containerd = unit("containerd.service", &["/etc/systemd/system/containerd.service", "/usr/bin/containerd"]);
        let written = written(&[resource(file("/etc/systemd/system/registry.service")), registry.clone()]);
        let restarts = |unit: &DesiredResource, changed: Resource| {
            let change = restart(unit, &written, [step(changed)].iter());
            change.map(|change| disruption(&unit.action, &change).unwrap())
        };
        assert_eq!(restarts(&registry, host_files.clone()), None);
        assert_eq!(restarts(&containerd, host_files.clone()).as_deref(), Some("may restart containerd.service"));
        let contents = ["/etc/systemd/system/containerd.service", "/usr/bin/containerd"].map(|path| (path.into(), Digest::of(b"known")));
        let known = SystemdUnit {
            contents: contents.into(),
            ..SystemdUnit::running("containerd.service", ["/etc/systemd/system/containerd.service", "/usr/bin/containerd"])
        };
        assert_eq!(restarts(&resource(Resource::SystemdUnit(known)), host_files.clone()), None, "its check has compared them");
        assert_eq!(restarts(&registry, file("/opt/etc/systemd/system/registry.service")), None);
        assert_eq!(restarts(&registry, file(REGISTRY_TLS)).as_deref(), Some("restarts registry.service"));
        assert_eq!(restarts(&containerd, file("/etc/hosts")), None);
    }
}
