//! The functions of templates: Go's own, sprig's (v3.2) and Helm's.

mod builtin;
mod certificate;
mod crypto;
pub mod date;
mod dict;
mod encode;
pub mod files;
mod helm;
mod letter_case;
mod list;
mod math;
mod path;
mod random;
mod regexp;
mod strings;
mod types;
mod url;
pub mod version;

use std::collections::HashMap;
use std::sync::LazyLock;

use super::template::{Engine, Value, display};

pub use helm::{execution_error, parse_error};

/// What a function does: values to a value, or to the message of an error.
pub type Run = fn(&Engine, &[Value]) -> std::result::Result<Value, String>;

/// The result of a function.
pub type Result<T = Value> = std::result::Result<T, String>;

/// A row of a table of functions: name, parameters, what it does.
pub type Row = (&'static str, &'static str, Run);

/// A function. Its parameters are a letter each: `s` string, `i` int, `b` bool, `f` float64, `m` map, `l` list, `a` anything;
/// a `*` says that the last may come any number of times.
#[derive(Clone, Copy)]
pub struct Function {
    parameters: &'static str,
    /// Calls it with as many arguments, of such types, as it takes.
    pub run: Run,
}

impl Function {
    /// The type of the parameter at a place.
    pub fn parameter(&self, at: usize) -> char {
        let parameters = self.parameters.trim_end_matches('*');
        parameters.chars().nth(at).or(parameters.chars().last()).unwrap_or('a')
    }

    /// What is wanted, if so many arguments do not fit.
    pub fn misfit(&self, count: usize) -> Option<String> {
        let fixed = self.parameters.trim_end_matches('*').len();
        if self.parameters.ends_with('*') {
            return (count < fixed - 1).then(|| format!("at least {}", fixed - 1));
        }
        (count != fixed).then(|| fixed.to_string())
    }
}

static FUNCTIONS: LazyLock<HashMap<&'static str, Function>> = LazyLock::new(|| {
    let tables: [&[Row]; 17] = [
        builtin::TABLE,
        certificate::TABLE,
        date::TABLE,
        crypto::TABLE,
        dict::TABLE,
        encode::TABLE,
        helm::TABLE,
        types::TABLE,
        list::TABLE,
        math::TABLE,
        path::TABLE,
        random::TABLE,
        regexp::TABLE,
        strings::TABLE,
        url::TABLE,
        version::TABLE,
        letter_case::TABLE,
    ];
    tables.into_iter().flatten().map(|(name, parameters, run)| (*name, Function { parameters, run: *run })).collect()
});

/// The function of a name.
pub fn find(name: &str) -> Option<Function> {
    FUNCTIONS.get(name).copied()
}

/// A string argument; the engine has checked that it is one.
fn string(arguments: &[Value], at: usize) -> &str {
    arguments.get(at).and_then(Value::as_text).unwrap_or_default()
}

/// An int argument; the engine has checked that it is one.
fn int(arguments: &[Value], at: usize) -> i64 {
    match arguments.get(at) {
        Some(Value::Int(value) | Value::Int64(value)) => *value,
        _ => 0,
    }
}

/// sprig's `strval`: how a value reads as text.
fn strval(value: &Value) -> String {
    match value {
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => display(other),
    }
}

/// sprig's `strslice`: the values of a list that are not nil, as texts.
fn strslice(value: &Value) -> Vec<String> {
    match value {
        Value::List(items) => items.iter().filter(|item| !item.is_nil()).map(strval).collect(),
        Value::Absent | Value::Nil => Vec::new(),
        other => vec![strval(other)],
    }
}

/// A text as a value.
fn text(value: impl AsRef<str>) -> Result {
    Ok(Value::text(value))
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
        mustToPrettyJson mustToRawJson mustToYaml mustUniq mustWithout ne nindent nospace not now omit or osBase
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
        let missing: Vec<&str> = OF_HELM.split_whitespace().filter(|name| find(name).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
        // Helm takes these away, as templates must not see the environment
        assert!(["env", "expandenv"].iter().all(|name| find(name).is_none()));
    }

    #[test]
    fn what_is_not_done_says_why() {
        for (name, argument, why) in [("fromToml", "a = 1", "render with `--engine helm`"), ("genPrivateKey", "dsa", "nothing takes them")]
        {
            let refused = (find(name).unwrap().run)(&Engine::default(), &[Value::text(argument)]);
            assert!(refused.unwrap_err().contains(why), "{name}");
        }
    }

    #[test]
    fn keys_are_in_the_forms_of_go() {
        let run = |name: &str, arguments: &[Value]| (find(name).unwrap().run)(&Engine::default(), arguments).unwrap();
        for (kind, head) in [
            ("rsa", "-----BEGIN RSA PRIVATE KEY-----\n"),
            ("ecdsa", "-----BEGIN EC PRIVATE KEY-----\n"),
            ("ed25519", "-----BEGIN PRIVATE KEY-----\n"),
            ("x", "Unknown type x"),
        ] {
            let key = run("genPrivateKey", &[Value::text(kind)]);
            assert!(key.as_text().unwrap().starts_with(head), "{key:?}");
        }
    }
}
