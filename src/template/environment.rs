//! An image's `*.tmpl`, filled in with environment variables as Sealer does. Where Sealer prints `<no value>` for a variable that is
//! not set, this is an error that names it, unless a function that asks whether it is set sees it first (`or`, `default`, …).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use anyhow::Result;

use super::exec::Unset;
use super::functions::{Functions, HERMETIC, Row, decode_base64_text, rows, string, text};
use super::{Engine, Value, budget};
use crate::error::Failure;

/// Where sprig prints the message of an error instead of the text, an image's file must not get it.
const TABLE: &[Row] = &[("b64dec", "s", |_, a| text(decode_base64_text(string(a, 0).trim())?))];

static FUNCTIONS: LazyLock<Functions> =
    LazyLock::new(|| HERMETIC.iter().map(|(name, function)| (*name, *function)).chain(rows(TABLE)).collect());

/// Renders a template; `file` names it in errors, `env` is what `{{ .NAME }}` reads.
///
/// # Errors
/// `Usage` with file and line where the template is wrong, prints a variable that is not set, or works without end.
pub fn render(file: &str, template: &str, env: &BTreeMap<String, String>) -> Result<String> {
    render_within(budget::LIMIT, file, template, env)
}

fn render_within(units: u64, file: &str, template: &str, env: &BTreeMap<String, String>) -> Result<String> {
    let rendered = budget::run(units, || {
        let mut engine = Engine::recording_unset(&FUNCTIONS);
        engine.add(file, template)?;
        let rendered = engine.execute(file, &Value::map(env.iter().map(|(name, value)| (name, Value::text(value)))));
        // what is not set is the cause of most other errors
        match engine.unset() {
            unset if unset.is_empty() => rendered.map(Ok),
            unset => Ok(Err(unset)),
        }
    });
    match rendered {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(unset)) => Err(not_set(file, &unset).into()),
        Err(message) => Err(Failure::usage(located(file, &message)).into()),
    }
}

/// Go's message, which starts with the file where there is a place.
fn located(file: &str, message: &str) -> String {
    let message = message.strip_prefix("template: ").unwrap_or(message);
    if message.starts_with(&format!("{file}:")) { message.to_owned() } else { format!("{file}: {message}") }
}

fn not_set(file: &str, unset: &[Unset]) -> Failure {
    let name = |expression: &str| expression.strip_prefix('.').filter(|name| !name.is_empty()).unwrap_or(expression).to_owned();
    let variables: Vec<String> = unset.iter().map(|unset| format!("`{}` (line {})", name(&unset.expression), unset.line)).collect();
    Failure::usage(format!("{file}: not set: {}", variables.join(", ")))
        .hint("set it in `env` of the Clusterfile or with `-e NAME=value`; a template gives a default with `{{ or .NAME \"default\" }}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> BTreeMap<String, String> {
        [("PodCIDR", "10.244.0.0/16"), ("Empty", ""), ("Masters", "10.0.0.2,10.0.0.3"), ("Lines", "a\nb")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn templates_render_as_go_renders_them() {
        let cases = [
            ("no actions <no value>", "no actions <no value>"),
            ("podSubnet: {{ .PodCIDR }}", "podSubnet: 10.244.0.0/16"),
            ("{{ or .SvcCIDR \"10.96.0.0/22\" }}", "10.96.0.0/22"),
            ("{{ if .SvcCIDR }}yes{{ else }}no{{ end }}", "no"),
            ("{{ if and (.A) (eq .A \"x\") }}yes{{ else }}no{{ end }}", "no"),
            ("[{{ .Empty }}]", "[]"),
            ("{{ default \"sea.hub\" .Domain }}", "sea.hub"),
            ("{{ .Domain | default \"sea.hub\" | upper }}", "SEA.HUB"),
            ("{{ .PodCIDR | b64enc }} {{ \"eA==\" | b64dec }}", "MTAuMjQ0LjAuMC8xNg== x"),
            ("{{ range $i, $ip := splitList \",\" .Masters }}{{ if $i }} {{ end }}{{ $ip }}:2379{{ end }}", "10.0.0.2:2379 10.0.0.3:2379"),
            ("{{ splitList \",\" .Masters | join \"+\" }}", "10.0.0.2+10.0.0.3"),
            ("x:{{ .Lines | nindent 2 }}", "x:\n  a\n  b"),
            (
                "{{ quote .PodCIDR }} {{ trim \" a \" }} {{ replace \"a\" \"b\" \"aa\" }} {{ contains \"4\" .PodCIDR }}",
                "\"10.244.0.0/16\" a bb true",
            ),
        ];
        for (template, expected) in cases {
            assert_eq!(render("t.tmpl", template, &env()).unwrap(), expected, "{template}");
        }
    }

    #[test]
    fn what_is_not_set_or_wrong_is_named_with_its_place() {
        let cases = [
            ("a\n{{ .SvcCIDR }} {{- .Other -}}", "etc/t.tmpl: not set: `SvcCIDR` (line 2), `Other` (line 2)"),
            ("{{ .SvcCIDR | b64enc }}", "etc/t.tmpl: not set: `SvcCIDR` (line 1)"),
            ("{{ b64enc .SvcCIDR | upper }}", "etc/t.tmpl: not set: `SvcCIDR` (line 1)"),
            ("{{ printf \"%v\" .SvcCIDR }}", "etc/t.tmpl: not set: `SvcCIDR` (line 1)"),
            ("{{ quote .SvcCIDR }}{{ .Other | indent 2 }}", "etc/t.tmpl: not set: `SvcCIDR` (line 1), `Other` (line 1)"),
            ("\n{{ $x := .SvcCIDR }}{{ $x }}", "etc/t.tmpl: not set: `$x` (line 2)"),
            ("{{ range splitList \",\" .Masters }}\n{{ $.Other }}{{ end }}", "etc/t.tmpl: not set: `$.Other` (line 2)"),
            ("a\nb {{ if }}", "etc/t.tmpl:2: missing value for if"),
            ("{{ nosuch .PodCIDR }}", "etc/t.tmpl:1: function \"nosuch\" not defined"),
            ("{{ indent 1000000000 .Lines }}", "etc/t.tmpl:1:3: executing"),
            ("{{ b64dec \"!\" }}", "error calling b64dec: illegal base64 data at input byte 0"),
            ("{{ b64dec \"/w==\" }}", "error calling b64dec: the decoded bytes are not text"),
            ("{{ join }}", "wrong number of args for join: want 2 got 0"),
            ("{{ define \"a\" }}{{ template \"a\" }}{{ end }}{{ template \"a\" }}", "exceeded maximum template depth"),
            ("{{ range until 10000 }}{{ range until 10000 }}x{{ end }}{{ end }}", "etc/t.tmpl: the limit on steps and output"),
            ("{{ include \"a\" . }}", "function \"include\" not defined"),
            ("{{ randAlpha 5 }}", "function \"randAlpha\" not defined"),
        ];
        for (template, expected) in cases {
            let error = render_within(1 << 22, "etc/t.tmpl", template, &env()).unwrap_err().to_string();
            assert!(error.contains(expected), "{template}: {error}");
        }
    }
}
