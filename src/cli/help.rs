//! `sealift --help`: the commands in groups, in the order in which they are used.

use clap::Command;

/// The groups, each with its commands.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Build", &["init", "lint", "build", "chart", "merge", "manifest"]),
    ("Share", &["push", "pull", "login", "logout", "save", "load", "inventory", "registry"]),
    ("Run", &["check", "plan", "run", "apply", "scale", "status", "logs", "exec", "kubeconfig", "reset", "clusters", "adopt", "forget"]),
    ("Trust", &["key", "sign", "verify", "sbom"]),
    ("Images", &["images", "inspect", "history", "diff", "unpack", "tag", "rmi", "prune", "fsck"]),
    ("Other", &["schema", "completion", "version"]),
];

/// The command with its help in groups; clap itself lists subcommands without any.
pub fn grouped(command: Command) -> Command {
    let styles = command.get_styles().clone();
    let (header, literal) = (styles.get_header(), styles.get_literal());
    let mut text = String::new();
    for (group, names) in GROUPS {
        text += &format!("{header}{group}:{header:#}\n");
        for name in names {
            let about = command.find_subcommand(name).and_then(Command::get_about).map(ToString::to_string).unwrap_or_default();
            text += &format!("  {literal}{name:<11}{literal:#} {about}\n");
        }
        text += "\n";
    }
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{text}{header}Options:{header:#}\n{{options}}{{after-help}}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group_and_its_line_fits_80_columns() {
        let command = super::super::command();
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let mut visible: Vec<&str> = command.get_subcommands().filter(|command| !command.is_hide_set()).map(Command::get_name).collect();
        grouped.sort_unstable();
        visible.sort_unstable();
        assert_eq!(grouped, visible);
        for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && about.len() <= 66, "{}: {} characters: {about}", command.get_name(), about.len());
        }
    }
}
