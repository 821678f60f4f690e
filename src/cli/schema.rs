//! `sealift schema`

use anyhow::Result;
use serde_json::Value;

use super::Context;
use crate::clusterfile::{SCHEMAS, schema};
use crate::diagnostic::did_you_mean;
use crate::error::Failure;

/// Print the JSON Schema of a kind of Clusterfile document, or the kinds that have one
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The kind, such as `Cluster`
    kind: Option<String>,
}

/// Prints it.
pub fn run(args: Args, context: &Context) -> Result<()> {
    let Some(kind) = args.kind else {
        return context.console.answer(SCHEMAS, || SCHEMAS.join("\n") + "\n");
    };
    let schema = find(&kind)?;
    let text = serde_json::to_string_pretty(&schema)? + "\n";
    context.console.answer(&schema, || text)
}

/// The schema of a kind, in whatever case it is written.
fn find(kind: &str) -> Result<Value> {
    let found = SCHEMAS.iter().find(|own| own.eq_ignore_ascii_case(kind)).and_then(|own| schema(own));
    found.ok_or_else(|| {
        let hint = did_you_mean(kind, SCHEMAS.iter().copied())
            .map_or_else(|| format!("kinds with a schema: {}", SCHEMAS.join(", ")), |meant| format!("did you mean `{meant}`?"));
        Failure::usage(format!("no schema for kind `{kind}`")).hint(hint).into()
    })
}
