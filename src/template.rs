//! Templates of an image (`*.tmpl`): Go's template language over an environment. Pure: text to text.
//!
//! As in Sealer, with `b64enc` and `b64dec` and a few more functions of Sprig. Where Sealer prints `<no value>` for a
//! variable that nobody set, this is an error that names it, unless `if`, `or`, `and` or `default` looks at it first.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use gotmpl::{Template, TemplateError, Value};

use crate::error::Failure;

/// How Go prints what is missing: alone, and by `print` and `printf`.
const NO_VALUE: [&str; 2] = ["<no value>", "<nil>"];

/// Renders a template; `file` names it in errors, `env` is what `{{ .NAME }}` reads.
///
/// # Errors
/// Fails with file and place where the template is wrong, and with file and name where it prints a variable that is not set.
pub fn render(file: &str, text: &str, env: &BTreeMap<String, String>) -> Result<String> {
    let data = Value::Map(Arc::new(env.iter().map(|(name, value)| (Arc::from(name.as_str()), Value::from(value.as_str()))).collect()));
    let wrong = |error: TemplateError| Failure::usage(describe(file, &error));
    let template = functions(Template::new(file)).parse(text).map_err(wrong)?;
    let rendered = template.execute_to_string(&data).map_err(wrong)?;
    if NO_VALUE.iter().any(|hole| rendered.matches(hole).count() > text.matches(hole).count()) {
        return Err(missing(file, text, env).into());
    }
    Ok(rendered)
}

fn describe(file: &str, error: &TemplateError) -> String {
    match error {
        TemplateError::Parse { line, col, message, .. } | TemplateError::Lex { line, col, message, .. } => {
            format!("{file}:{line}:{col}: {message}")
        }
        other => format!("{file}: {other}"),
    }
}

/// Names the variables that a template prints and nobody set.
fn missing(file: &str, text: &str, env: &BTreeMap<String, String>) -> Failure {
    let mut names: Vec<String> = Vec::new();
    for (line, name) in printed(text).into_iter().filter(|(_, name)| !env.contains_key(*name)) {
        let place = format!("`{name}` (line {line})");
        if !names.contains(&place) {
            names.push(place);
        }
    }
    let what = if names.is_empty() { "a value".to_owned() } else { names.join(", ") };
    Failure::usage(format!("{file}: not set: {what}"))
        .hint("set it in `env` of the Clusterfile or with `-e NAME=value`; a template gives a default with `{{ or .NAME \"default\" }}`")
}

/// The variables that a template prints as they are, with their lines: `{{ .NAME }}`.
fn printed(text: &str) -> Vec<(usize, &str)> {
    let actions = text.match_indices("{{").filter_map(|(start, _)| {
        let (inside, _) = text[start + 2..].split_once("}}")?;
        let name = inside.trim_matches('-').trim().strip_prefix('.')?;
        let is_name = !name.is_empty() && name.chars().all(|character| character.is_alphanumeric() || character == '_');
        is_name.then(|| (text[..start].matches('\n').count() + 1, name))
    });
    actions.collect()
}

fn functions(template: Template) -> Template {
    template
        .func("b64enc", |args| Ok(text(BASE64.encode(word("b64enc", args, 0)?))))
        .func("b64dec", |args| {
            let bytes = BASE64.decode(word("b64dec", args, 0)?.trim()).map_err(|error| TemplateError::Exec(format!("b64dec: {error}")))?;
            String::from_utf8(bytes).map(text).map_err(|_| TemplateError::Exec("b64dec: not text".to_owned()))
        })
        .func("default", |args| match args {
            [default, given] => Ok(if given.is_truthy() { given.clone() } else { default.clone() }),
            [default] => Ok(default.clone()),
            _ => Err(TemplateError::Exec("default wants a default and a value".to_owned())),
        })
        .func("quote", |args| {
            let words = (0..args.len()).map(|at| word("quote", args, at).map(|word| format!("{word:?}"))).collect::<Result<Vec<_>, _>>()?;
            Ok(text(words.join(" ")))
        })
        .func("trim", |args| Ok(text(word("trim", args, 0)?.trim().to_owned())))
        .func("upper", |args| Ok(text(word("upper", args, 0)?.to_uppercase())))
        .func("lower", |args| Ok(text(word("lower", args, 0)?.to_lowercase())))
        .func("indent", |args| Ok(text(indented("indent", args)?)))
        .func("nindent", |args| Ok(text(format!("\n{}", indented("nindent", args)?))))
        .func("replace", |args| Ok(text(word("replace", args, 2)?.replace(&word("replace", args, 0)?, &word("replace", args, 1)?))))
        .func("contains", |args| Ok(Value::Bool(word("contains", args, 1)?.contains(&word("contains", args, 0)?))))
        .func("splitList", |args| {
            let (separator, list) = (word("splitList", args, 0)?, word("splitList", args, 1)?);
            Ok(Value::List(list.split(separator.as_str()).map(|item| text(item.to_owned())).collect::<Vec<_>>().into()))
        })
        .func("join", |args| match args {
            [separator, Value::List(items)] => {
                Ok(text(items.iter().map(ToString::to_string).collect::<Vec<_>>().join(&separator.to_string())))
            }
            _ => Err(TemplateError::Exec("join wants a separator and a list".to_owned())),
        })
}

fn text(value: String) -> Value {
    Value::from(value)
}

/// The argument of a function as text; what is missing is an error rather than `<no value>`.
fn word(function: &str, args: &[Value], at: usize) -> Result<String, TemplateError> {
    match args.get(at) {
        Some(Value::Nil) => Err(TemplateError::Exec(format!("{function}: the value is not set"))),
        Some(value) => Ok(value.to_string()),
        None => Err(TemplateError::Exec(format!("{function} wants {} arguments, {} are given", at + 1, args.len()))),
    }
}

/// The text with so many spaces before each line.
fn indented(function: &str, args: &[Value]) -> Result<String, TemplateError> {
    let wrong = || TemplateError::Exec(format!("{function} wants a number of spaces from 0 to 100"));
    let count = args.first().and_then(Value::as_int).and_then(|count| usize::try_from(count).ok()).filter(|count| *count <= 100);
    let spaces = " ".repeat(count.ok_or_else(wrong)?);
    Ok(format!("{spaces}{}", word(function, args, 1)?.replace('\n', &format!("\n{spaces}"))))
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
            ("{{ .SvcCIDR | b64enc }}", "b64enc: the value is not set"),
            ("{{ printf \"%v\" .SvcCIDR }}", "etc/t.tmpl: not set"),
            ("a\nb {{ if }}", "etc/t.tmpl:2:"),
            ("{{ nosuch .PodCIDR }}", "nosuch"),
            ("{{ indent 1000000000 .Lines }}", "indent wants a number"),
            ("{{ b64dec \"!\" }}", "b64dec"),
            ("{{ join }}", "join wants"),
        ];
        for (template, expected) in cases {
            let error = render("etc/t.tmpl", template, &env()).unwrap_err().to_string();
            assert!(error.contains(expected), "{template}: {error}");
        }
    }
}
