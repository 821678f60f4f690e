//! Go templates (`*.tmpl`) made readable as YAML, line by line, without rendering them.

/// Stands where an action stood; no image name can contain it.
pub const HOLE: &str = "TEMPLATED";

/// Replaces each `{{…}}` by [`HOLE`], or by nothing where it fills a line of its own. Lines keep their numbers.
pub fn blank_out(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, tail) = after.split_once("}}").unwrap_or((after, ""));
        out.push_str(before);
        let alone = out.rsplit('\n').next().unwrap_or("").trim().is_empty() && tail.split('\n').next().unwrap_or("").trim().is_empty();
        if !alone {
            out.push_str(HOLE);
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
    fn actions_become_holes_and_lines_keep_their_numbers() {
        for (text, want) in [
            ("a: b\n", "a: b\n"),
            ("image: {{ .Repo }}/x:{{.Tag}}\n", "image: TEMPLATED/x:TEMPLATED\n"),
            ("{{- if .A }}\nimage: x\n{{ end -}}\n", "\nimage: x\n\n"),
            ("a: {{/* long\ncomment */}} b\n", "a: TEMPLATED\n b\n"),
            ("open {{ never", "open TEMPLATED"),
        ] {
            assert_eq!(blank_out(text), want, "{text}");
        }
    }
}
