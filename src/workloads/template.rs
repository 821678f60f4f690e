//! Go templates (`*.tmpl`) as YAML, without rendering them: the search for images reads the text between the actions.

/// What an action (`{{…}}`) is replaced by. No image name can contain it: repositories are lower case.
pub const PLACEHOLDER: &str = "TEMPLATED";

/// Replaces each action by [`PLACEHOLDER`], or by nothing if it has a line of its own. Lines keep their numbers.
pub fn replace_actions(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, tail) = after.split_once("}}").unwrap_or((after, ""));
        out.push_str(before);
        let alone = out.rsplit('\n').next().unwrap_or("").trim().is_empty() && tail.split('\n').next().unwrap_or("").trim().is_empty();
        if !alone {
            out.push_str(PLACEHOLDER);
        }
        out.extend(action.matches('\n'));
        rest = tail;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_become_placeholders_and_lines_keep_their_numbers() {
        for (text, expected) in [
            ("a: b\n", "a: b\n"),
            ("image: {{ .Repo }}/x:{{.Tag}}\n", "image: TEMPLATED/x:TEMPLATED\n"),
            ("{{- if .A }}\nimage: x\n{{ end -}}\n", "\nimage: x\n\n"),
            ("a: {{/* long\ncomment */}} b\n", "a: TEMPLATED\n b\n"),
            ("open {{ never", "open TEMPLATED"),
        ] {
            assert_eq!(replace_actions(text), expected, "{text}");
        }
    }
}
