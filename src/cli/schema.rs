//! `sealift schema`

use anyhow::Result;
use serde_json::Value;

use super::CommandContext;
use crate::clusterfile::{SCHEMAS, schema};
use crate::diagnostic::did_you_mean;
use crate::error::Failure;
use crate::trust::policy_schema;

/// The kind of a trust policy.
const TRUST_POLICY: &str = "TrustPolicy";

/// Print the JSON Schema of a Clusterfile document or trust policy
///
/// Without a kind, lists the kinds that have a schema.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift schema\n  sealift schema Cluster > Cluster.json")]
pub struct Args {
    /// The kind, such as Cluster or TrustPolicy
    kind: Option<String>,
}

/// Prints it.
pub fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let Some(kind) = args.kind else {
        let kinds = kinds();
        return cmd.console.answer(&kinds, || kinds.join("\n") + "\n");
    };
    let schema = find(&kind)?;
    let text = serde_json::to_string_pretty(&schema)? + "\n";
    cmd.console.answer(&schema, || text)
}

/// The kinds that have a schema.
fn kinds() -> Vec<&'static str> {
    SCHEMAS.iter().copied().chain([TRUST_POLICY]).collect()
}

/// The schema of a kind, in whatever case it is written.
fn find(kind: &str) -> Result<Value> {
    let found = kinds().into_iter().find(|own| own.eq_ignore_ascii_case(kind)).and_then(|own| match own {
        TRUST_POLICY => Some(policy_schema()),
        own => schema(own),
    });
    found.ok_or_else(|| {
        let hint = did_you_mean(kind, kinds())
            .map_or_else(|| format!("kinds with a schema: {}", kinds().join(", ")), |meant| format!("did you mean `{meant}`?"));
        Failure::usage(format!("no schema for kind `{kind}`")).hint(hint).into()
    })
}
