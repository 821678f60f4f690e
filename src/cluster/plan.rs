//! What a run would change, as data: printed by `plan`, carried out by `apply`.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde::Serialize;

use super::stage::{Action, DesiredResource, STAGES};
use super::{DesiredState, ObservedState};
use crate::resource::{Resource, State};

/// What a run would change.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The cluster.
    pub cluster: String,
    /// The image.
    pub image: String,
    /// The stages that have something to do, in the order they run.
    pub stages: Vec<StagePlan>,
}

/// What one stage would change.
#[derive(Debug, Clone, Serialize)]
pub struct StagePlan {
    /// Its name.
    pub stage: &'static str,
    /// Its steps, host by host.
    pub steps: Vec<Step>,
}

/// One thing to change on one host.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// The host.
    pub host: IpAddr,
    /// What is changed.
    pub what: String,
    /// How.
    #[serde(flatten)]
    pub change: Change,
}

/// How something is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum Change {
    /// It is not there.
    Create,
    /// It is otherwise.
    Update {
        /// What is.
        is: String,
        /// What shall be.
        shall: String,
    },
    /// Blobs are sent.
    Ship {
        /// How many.
        blobs: usize,
        /// How many bytes are missing of them.
        bytes: u64,
    },
    /// What is cannot be told.
    Unknown {
        /// Why.
        why: String,
    },
}

impl Plan {
    /// What it takes from what is to what shall be. Pure.
    pub fn new(desired: &DesiredState, observed: &ObservedState) -> Plan {
        let mut stages = Vec::new();
        for stage in STAGES {
            let mut steps: Vec<Step> = Vec::new();
            for want in (stage.wants)(desired) {
                let earlier = stages.iter().flat_map(|stage: &StagePlan| &stage.steps).chain(&steps);
                let change = change(&want, observed).or_else(|| restart(&want, earlier));
                steps.extend(change.map(|change| Step { host: want.host, what: want.action.title(), change }));
            }
            if !steps.is_empty() {
                stages.push(StagePlan { stage: stage.name, steps });
            }
        }
        Plan { cluster: desired.name().to_owned(), image: desired.image.name.familiar(), stages }
    }

    /// How many things it changes.
    pub fn changes(&self) -> usize {
        self.stages.iter().map(|stage| stage.steps.len()).sum()
    }

    /// The plan for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for stage in &self.stages {
            writeln!(text, "{}", stage.stage).expect("strings take everything");
            for step in &stage.steps {
                writeln!(text, "  {} {}  {}{}", step.change.sign(), step.host, step.what, step.change.detail()).expect("as above");
            }
        }
        let count = self.changes();
        text + &format!("{count} {} to {}\n", if count == 1 { "change" } else { "changes" }, self.cluster)
    }
}

impl Change {
    fn sign(&self) -> char {
        match self {
            Change::Create => '+',
            Change::Update { .. } => '~',
            Change::Ship { .. } => '>',
            Change::Unknown { .. } => '?',
        }
    }

    fn detail(&self) -> String {
        match self {
            Change::Create => String::new(),
            Change::Update { is, shall } => format!(": {is} -> {shall}"),
            Change::Ship { bytes, .. } => format!(", {}", indicatif::BinaryBytes(*bytes)),
            Change::Unknown { why } => format!(": {why}"),
        }
    }
}

fn change(want: &DesiredResource, observed: &ObservedState) -> Option<Change> {
    match &want.action {
        Action::Ship(blobs) => {
            let missing: Vec<u64> = blobs.iter().filter_map(|blob| observed.missing(want.host, &blob.digest)).collect();
            (!missing.is_empty()).then(|| Change::Ship { blobs: missing.len(), bytes: missing.iter().sum() })
        }
        Action::Resource(resource) => match observed.state(want.host, resource) {
            Some(Ok(State::Present)) => None,
            Some(Ok(State::Absent)) => Some(Change::Create),
            Some(Ok(State::Differs { actual: is, desired: shall })) => Some(Change::Update { is: is.clone(), shall: shall.clone() }),
            Some(Err(why)) => Some(Change::Unknown { why: why.clone() }),
            None => Some(Change::Unknown { why: "not checked".to_owned() }),
        },
    }
}

/// A unit that runs well now is restarted when a file that it reads is about to change.
fn restart<'a>(want: &DesiredResource, mut earlier: impl Iterator<Item = &'a Step>) -> Option<Change> {
    let Action::Resource(Resource::Unit(unit)) = &want.action else { return None };
    let inputs: Vec<String> = unit.inputs.iter().map(|path| path.display().to_string()).collect();
    let touched = earlier.any(|step| {
        step.host == want.host && (step.what.starts_with("host files ") || inputs.iter().any(|input| step.what.ends_with(input.as_str())))
    });
    (touched && !inputs.is_empty()).then(|| Change::Update { is: "running".into(), shall: "restarted: files that it reads change".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_like_a_list_and_counts_its_changes() {
        let host = IpAddr::from([10, 0, 0, 1]);
        let step = |what: &str, change| Step { host, what: what.to_owned(), change };
        let update = Change::Update { is: "0".into(), shall: "1".into() };
        let plan = Plan {
            cluster: "shop".into(),
            image: "shop:1".into(),
            stages: vec![
                StagePlan { stage: "prepare", steps: vec![step("sysctl a=1", update), step("file /etc/a", Change::Create)] },
                StagePlan { stage: "ship", steps: vec![step("rootfs", Change::Ship { blobs: 2, bytes: 3 << 20 })] },
            ],
        };
        insta::assert_snapshot!(plan.text(), @r"
        prepare
          ~ 10.0.0.1  sysctl a=1: 0 -> 1
          + 10.0.0.1  file /etc/a
        ship
          > 10.0.0.1  rootfs, 3.00 MiB
        3 changes to shop
        ");
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(json["stages"][0]["steps"][0]["change"], "update");
    }
}
