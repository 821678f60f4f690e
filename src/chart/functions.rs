//! The functions that Helm adds to sprig's: `include`, `tpl`, `required`, `lookup`, YAML and TOML.

use std::sync::LazyLock;

use super::{toml, yaml};
use crate::template::functions::version::satisfies_by_group;
use crate::template::functions::{Functions, Result, Row, SPRIG, rows, string, text};
use crate::template::{Engine, Value, json, quote};

/// The name of the template that contains all others, and of each that `tpl` executes.
const ROOT: &str = "gotpl";

/// All functions of a chart's templates: Go's, sprig's, and over them Helm's.
pub static HELM: LazyLock<Functions> =
    LazyLock::new(|| SPRIG.iter().map(|(name, function)| (*name, *function)).chain(rows(TABLE)).collect());

/// Starts the message of `required` and `fail` in a chain of errors, as in Helm.
const MESSAGE_START: &str = "HELM_ERR_START";
/// Ends that message.
const MESSAGE_END: &str = "HELM_ERR_END";

/// The functions of Helm 4: what it added, and versions with their prereleases.
pub static HELM_4: LazyLock<Functions> =
    LazyLock::new(|| HELM.iter().map(|(name, function)| (*name, *function)).chain(rows(TABLE_OF_HELM_4)).collect());

const TABLE_OF_HELM_4: &[Row] = &[
    ("mustToYaml", "a", |_, a| text(yaml::write(&a[0])?.trim_end_matches('\n'))),
    ("mustToToml", "a", |_, a| text(toml::write(&a[0])?)),
    ("semverCompare", "ss", |_, a| Ok(Value::Bool(satisfies_by_group(string(a, 0), string(a, 1))?))),
];

const TABLE: &[Row] = &[
    ("include", "sa", |engine, a| text(engine.include(string(a, 0), &a[1])?)),
    ("tpl", "sa", tpl),
    ("fail", "s", |_, a| Err(format!("{MESSAGE_START}{}{MESSAGE_END}", string(a, 0)))),
    ("required", "sa", |_, a| match &a[1] {
        value if value.is_nil() || value.as_text() == Some("") => Err(format!("{MESSAGE_START}{}{MESSAGE_END}", string(a, 0))),
        value => Ok(value.clone()),
    }),
    // as `helm template`, which has no cluster
    ("lookup", "ssss", |_, _| Ok(Value::map::<String>([]))),
    // names are not resolved: a chart must not depend on where it is rendered
    ("getHostByName", "s", |_, _| text("")),
    ("fromJson", "s", |_, a| Ok(or_error_map(json::read(string(a, 0)).and_then(|value| only_map(value, "json"))))),
    ("fromJsonArray", "s", |_, a| Ok(or_error_list(json::read(string(a, 0)).and_then(|value| only_list(value, "json"))))),
    ("toYaml", "a", to_yaml),
    ("toYamlPretty", "a", |_, a| text(yaml::write_pretty(&a[0]).unwrap_or_default().trim_end_matches('\n'))),
    ("fromYaml", "s", |_, a| Ok(or_error_map(yaml::read(string(a, 0)).and_then(|value| only_map(value, "yaml"))))),
    ("fromYamlArray", "s", |_, a| Ok(or_error_list(yaml::read(string(a, 0)).and_then(|value| only_list(value, "yaml"))))),
    ("fromToml", "s", |_, a| Ok(or_error_map(toml::read(string(a, 0))))),
    ("toToml", "a", |_, a| match &a[0] {
        value if value.is_nil() => Err("reflect: call of reflect.Value.Type on zero Value".to_owned()),
        value => text(toml::write(value).unwrap_or_else(|message| message)),
    }),
];

fn tpl(engine: &Engine, a: &[Value]) -> Result {
    let template = string(a, 0);
    let mut engine = engine.clone();
    engine.replace(ROOT, template).map_err(|message| format!("cannot parse template {}: {message}", quote(template)))?;
    let rendered = engine.execute(ROOT, &a[1]);
    let rendered = rendered.map_err(|message| format!("error during tpl function execution for {}: {message}", quote(template)))?;
    text(rendered.replace("<no value>", ""))
}

fn to_yaml(_: &Engine, a: &[Value]) -> Result {
    // Helm ignores what it cannot write
    text(yaml::write(&a[0]).unwrap_or_default().trim_end_matches('\n'))
}

fn or_error_map(value: Result) -> Value {
    value.unwrap_or_else(|message| Value::map([("Error", Value::text(message))]))
}

fn or_error_list(value: Result) -> Value {
    value.unwrap_or_else(|message| Value::list([Value::text(message)]))
}

fn only_map(value: Value, language: &str) -> Result {
    match value {
        Value::Map(_) => Ok(value),
        Value::Nil | Value::Absent => Ok(Value::map::<String>([])),
        other => Err(mismatch(&other, language, "map[string]interface {}")),
    }
}

fn only_list(value: Value, language: &str) -> Result {
    match value {
        Value::List(_) => Ok(value),
        Value::Nil | Value::Absent => Ok(Value::list([])),
        other => Err(mismatch(&other, language, "[]interface {}")),
    }
}

fn mismatch(value: &Value, language: &str, expected: &str) -> String {
    let found = match value {
        Value::List(_) => "array",
        Value::Map(_) => "object",
        Value::Text(_) => "string",
        Value::Bool(_) => "bool",
        _ => "number",
    };
    let before = if language == "yaml" { "error unmarshaling JSON: while decoding JSON: " } else { "" };
    format!("{before}json: cannot unmarshal {found} into Go value of type {expected}")
}

/// Formats a parse error as Helm does: only the place and the last clause.
pub fn parse_error(file: &str, message: &str) -> String {
    let clauses: Vec<&str> = message.split(": ").collect();
    match clauses.as_slice() {
        [_, place, .., last] => format!("parse error at ({place}): {last}"),
        _ => format!("parse error in ({file}): {message}"),
    }
}

/// Formats an execution error as Helm does: of `required` and `fail` only their message.
pub fn execution_error(file: &str, message: &str) -> String {
    if !message.starts_with("template: ") {
        return message.to_owned();
    }
    let clauses: Vec<&str> = message.splitn(3, ": ").collect();
    let [_, place, chain] = clauses.as_slice() else { return format!("execution error in ({file}): {message}") };
    match chain.split_once(MESSAGE_START).and_then(|(_, rest)| rest.rsplit_once(MESSAGE_END)) {
        Some((told, _)) => format!("execution error at ({place}): {told}"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The functions of Helm 3.17 with sprig 3.3 and Go's own.
    const OF_HELM: &str = "
        abbrev abbrevboth add add1 add1f addf adler32sum ago all and any append atoi b32dec b32enc b64dec b64enc base
        bcrypt biggest buildCustomCert call camelcase cat ceil chunk clean coalesce compact concat contains date
        dateInZone dateModify decryptAES deepCopy deepEqual default derivePassword dict dig dir div divf duration
        durationRound empty encryptAES eq ext fail first float64 floor fromJson fromJsonArray fromToml fromYaml
        fromYamlArray ge genCA genCAWithKey genPrivateKey genSelfSignedCert genSelfSignedCertWithKey genSignedCert
        genSignedCertWithKey get getHostByName gt has hasKey hasPrefix hasSuffix hello html htmlDate htmlDateInZone
        htpasswd include indent index initial initials int int64 isAbs join js kebabcase keys kindIs kindOf last le
        len list lookup lower lt max maxf merge mergeOverwrite min minf mod mul mulf mustAppend mustChunk mustCompact
        mustDateModify mustDeepCopy mustFirst mustFromJson mustHas mustInitial mustLast mustMerge mustMergeOverwrite
        mustPrepend mustPush mustRegexFind mustRegexFindAll mustRegexMatch mustRegexReplaceAll
        mustRegexReplaceAllLiteral mustRegexSplit mustRest mustReverse mustSlice mustToDate mustToJson
        mustToPrettyJson mustToRawJson mustUniq mustWithout ne nindent nospace not now omit or osBase
        osClean osDir osExt osIsAbs pick pluck plural prepend print printf println push quote randAlpha randAlphaNum
        randAscii randBytes randInt randNumeric regexFind regexFindAll regexMatch regexQuoteMeta regexReplaceAll
        regexReplaceAllLiteral regexSplit repeat replace required rest reverse round semver semverCompare seq set
        sha1sum sha256sum sha512sum shuffle slice snakecase sortAlpha split splitList splitn squote sub subf substr
        swapcase ternary title toDate toDecimal toJson toPrettyJson toRawJson toString toStrings toToml toYaml
        toYamlPretty tpl trim trimAll trimPrefix trimSuffix trimall trunc tuple typeIs typeIsLike typeOf uniq
        unixEpoch unset until untilStep untitle upper urlJoin urlParse urlquery uuidv4 values without wrap wrapWith
    ";

    #[test]
    fn every_function_of_helm_is_there() {
        let missing: Vec<&str> = OF_HELM.split_whitespace().filter(|name| !HELM.contains_key(name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        // Helm takes these away, as templates must not see the environment
        assert!(["env", "expandenv"].iter().all(|name| !HELM.contains_key(name)));
    }
}
