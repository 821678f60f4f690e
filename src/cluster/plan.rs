//! The plan: what a run would change, as data. `plan` prints it, `run` and `apply` carry it out.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use super::stage::{Action, DesiredResource, STAGES};
use super::{DesiredState, ObservedState};
use crate::resource::{Resource, State};

/// What a run would change. Its JSON is the output of `plan -o json`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The name of the cluster.
    pub cluster: String,
    /// The name of the image.
    pub image: String,
    /// The stages with changes, in the order they run.
    pub stages: Vec<StagePlan>,
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
    /// The address of the host.
    pub host: IpAddr,
    /// The title of the resource that is changed, such as `file /etc/hosts`.
    pub what: String,
    /// How it is changed.
    #[serde(flatten)]
    pub change: Change,
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
    /// Missing blobs will be sent.
    #[serde(rename = "ship")]
    Distribute {
        /// How many blobs are missing.
        blobs: usize,
        /// How many bytes of them are missing.
        bytes: u64,
    },
    /// Its state is unknown: the check failed.
    Unknown {
        /// The error of the check.
        why: String,
    },
}

impl Plan {
    /// The changes that lead from the observed to the desired state. Pure.
    pub fn new(desired: &DesiredState, observed: &ObservedState) -> Plan {
        let mut stages = Vec::new();
        for stage in STAGES {
            let mut steps: Vec<Step> = Vec::new();
            for resource in (stage.desired_resources)(desired) {
                let earlier = stages.iter().flat_map(|stage: &StagePlan| &stage.steps).chain(&steps);
                let change = change(&resource, observed).or_else(|| restart(&resource, earlier));
                steps.extend(change.map(|change| Step { host: resource.host, what: resource.action.title(), change }));
            }
            if !steps.is_empty() {
                stages.push(StagePlan { stage: stage.name, steps });
            }
        }
        Plan { cluster: desired.name().to_owned(), image: desired.image.name.familiar(), stages }
    }

    /// The number of changes.
    pub fn changes(&self) -> usize {
        self.stages.iter().map(|stage| stage.steps.len()).sum()
    }

    /// The plan as text for people, one change a line: `+` create, `~` update, `>` send, `?` unknown.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for stage in &self.stages {
            writeln!(text, "{}", stage.stage).expect("writing to a string");
            for step in &stage.steps {
                writeln!(text, "  {} {}  {}{}", step.change.sign(), step.host, step.what, step.change.detail())
                    .expect("writing to a string");
            }
        }
        let count = self.changes();
        text + &format!("{count} {} to {}\n", if count == 1 { "change" } else { "changes" }, self.cluster)
    }
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
            Change::Distribute { .. } => '>',
            Change::Unknown { .. } => '?',
        }
    }

    fn detail(&self) -> String {
        match self {
            Change::Create => String::new(),
            Change::Update { actual, desired } => format!(": {actual} -> {desired}"),
            Change::Distribute { bytes, .. } => format!(", {}", indicatif::BinaryBytes(*bytes)),
            Change::Unknown { why } => format!(": {why}"),
        }
    }
}

fn change(desired: &DesiredResource, observed: &ObservedState) -> Option<Change> {
    match &desired.action {
        Action::Distribute(blobs) => {
            let missing: Vec<u64> = blobs.iter().filter_map(|blob| observed.missing(desired.host, &blob.digest)).collect();
            (!missing.is_empty()).then(|| Change::Distribute { blobs: missing.len(), bytes: missing.iter().sum() })
        }
        Action::Resource(resource) => match observed.state(desired.host, resource) {
            Some(Ok(State::Present)) => None,
            Some(Ok(State::Absent)) => Some(Change::Create),
            Some(Ok(State::Differs { actual, desired })) => Some(Change::Update { actual: actual.clone(), desired: desired.clone() }),
            Some(Err(why)) => Some(Change::Unknown { why: why.clone() }),
            None => Some(Change::Unknown { why: "not checked".to_owned() }),
        },
    }
}

/// A unit without drift is restarted if a file that it reads will change.
fn restart<'a>(desired: &DesiredResource, mut earlier: impl Iterator<Item = &'a Step>) -> Option<Change> {
    let Action::Resource(Resource::SystemdUnit(unit)) = &desired.action else { return None };
    let inputs: Vec<String> = unit.inputs.iter().map(|path| path.display().to_string()).collect();
    let touched = earlier.any(|step| {
        step.host == desired.host
            && (step.what.starts_with("host files ") || inputs.iter().any(|input| step.what.ends_with(input.as_str())))
    });
    (touched && !inputs.is_empty())
        .then(|| Change::Update { actual: "running".into(), desired: "restarted: files that it reads change".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_lists_and_counts_its_changes_and_its_json_stays_as_it_was() {
        let host = IpAddr::from([10, 0, 0, 1]);
        let step = |what: &str, change| Step { host, what: what.to_owned(), change };
        let update = Change::Update { actual: "0".into(), desired: "1".into() };
        let plan = Plan {
            cluster: "shop".into(),
            image: "shop:1".into(),
            stages: vec![
                StagePlan { stage: "prepare", steps: vec![step("sysctl a=1", update), step("file /etc/a", Change::Create)] },
                StagePlan { stage: "distribute", steps: vec![step("rootfs", Change::Distribute { blobs: 2, bytes: 3 << 20 })] },
            ],
        };
        insta::assert_snapshot!(plan.text(), @r"
        prepare
          ~ 10.0.0.1  sysctl a=1: 0 -> 1
          + 10.0.0.1  file /etc/a
        distribute
          > 10.0.0.1  rootfs, 3.00 MiB
        3 changes to shop
        ");
        let json = serde_json::to_value(&plan).unwrap();
        let steps = |stage: usize| json["stages"][stage]["steps"].clone();
        assert_eq!(
            (json["stages"][0]["stage"].as_str(), steps(0)),
            (
                Some("prepare"),
                serde_json::json!([
                    {"host": "10.0.0.1", "what": "sysctl a=1", "change": "update", "is": "0", "shall": "1"},
                    {"host": "10.0.0.1", "what": "file /etc/a", "change": "create"},
                ])
            )
        );
        assert_eq!(
            (json["stages"][1]["stage"].as_str(), steps(1)),
            (Some("ship"), serde_json::json!([{"host": "10.0.0.1", "what": "rootfs", "change": "ship", "blobs": 2, "bytes": 3 << 20}]))
        );
    }
}
