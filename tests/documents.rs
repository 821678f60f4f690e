//! What the documents say can be typed: commands parse, links lead somewhere, both READMEs say the same, every command is documented.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::PermissionsExt as _;

use common::documents::{Document, documents, read, root};

/// The calls of sealift in a line: at its beginning, after pipes and `;`, with variables before it; redirections off.
fn calls(line: &str) -> Vec<Vec<String>> {
    let words = shell_words(line);
    let parts = words.split(|word| matches!(word.as_str(), "|" | "&&" | "||" | ";"));
    let calls = parts.map(|part| {
        let begin = part.iter().position(|word| !word.contains('=') && word != "sudo").unwrap_or(part.len());
        let end = part.iter().position(|word| word.starts_with(['<', '>']) || word.starts_with("2>")).unwrap_or(part.len());
        part.get(begin..end).unwrap_or_default().to_vec()
    });
    calls.filter(|call| call.first().is_some_and(|program| program == "sealift")).collect()
}

/// Splits as a shell does, quotes taken off.
fn shell_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, ' ' | '\t') => words.extend(word.take()),
            (None, ';') => {
                words.extend(word.take());
                words.push(";".to_owned());
            }
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_command_in_a_document_parses() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for document in documents() {
        for (line, command) in document.commands() {
            for call in calls(&command) {
                seen += 1;
                if let Err(error) = sealift::cli::command().try_get_matches_from(&call)
                    && error.use_stderr()
                {
                    wrong.push(format!("{}:{line}: {command}\n{error}", document.name()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 20, "only {seen} commands found: are they still looked for where they are?");
}

#[test]
fn commands_are_found_where_shells_find_them() {
    let text =
        "```sh\nA=1 sealift run a \\\n  -f b # why\n```\n```console\n$ sealift images | head\nsealift no\n```\n```\nsealift no\n```\n";
    let document = Document { path: root().join("x.md"), text: text.to_owned() };
    let found: Vec<_> = document.commands().iter().flat_map(|(_, line)| calls(line)).map(|call| call.join("+")).collect();
    assert_eq!(found, ["sealift+run+a+-f+b", "sealift+images"]);
    assert_eq!(calls("sealift exec -- sh -c 'a | b' > out; sealift status").len(), 2);
}

#[test]
fn both_readmes_have_the_same_commands_in_the_same_order() {
    let commands = |name: &str| read(root().join(name)).commands().into_iter().map(|(_, command)| command).collect::<Vec<_>>();
    let english = commands("README.md");
    assert_eq!(english, commands("README.zh.md"));
    assert_eq!(english[..2], ["scripts/quickstart.sh", "scripts/test.sh"]);
}

#[test]
fn links_and_named_files_lead_somewhere_and_scripts_can_be_run() {
    let mut wrong = Vec::new();
    for document in documents() {
        let here = document.path.parent().unwrap();
        let links = document.links().into_iter().map(|link| here.join(link));
        let files = document.named_files().into_iter().map(|file| root().join(file));
        for path in links.chain(files) {
            let Ok(meta) = std::fs::metadata(&path) else {
                wrong.push(format!("{}: {} does not exist", document.name(), path.display()));
                continue;
            };
            let script = meta.is_file() && path.parent() == Some(&root().join("scripts"));
            if script && meta.permissions().mode() & 0o111 == 0 && std::fs::read(&path).unwrap().starts_with(b"#!") {
                wrong.push(format!("{}: {} cannot be run", document.name(), path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_command_is_documented() {
    let texts: String = documents().into_iter().map(|document| document.text).collect();
    let undocumented: Vec<String> = sealift::cli::command()
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help")
        .map(|command| format!("sealift {}", command.get_name()))
        .filter(|command| !texts.contains(command.as_str()))
        .collect();
    assert!(undocumented.is_empty(), "no document mentions: {}", undocumented.join(", "));
}

#[test]
fn every_environment_variable_of_sealift_is_documented() {
    let document = read(root().join("docs/commands.md")).text;
    let mut variables = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(root().join("src/cli")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for reading in ["env = \"", "var_os(\"", "try_from_env(\""] {
            let names = text.match_indices(reading).filter_map(|(at, _)| text[at + reading.len()..].split('"').next());
            variables.extend(names.filter(|name| name.starts_with("SEALIFT_")).map(str::to_owned));
        }
    }
    assert!(variables.len() >= 5, "{variables:?}");
    let missing: Vec<&String> = variables.iter().filter(|name| !document.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/commands.md does not say what these are: {missing:?}");
}

#[test]
fn the_list_of_dependencies_is_that_of_cargo_toml() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let sections = manifest
        .split("\n[")
        .filter(|section| ["dependencies]", "dev-dependencies]", "build-dependencies]"].iter().any(|name| section.starts_with(name)));
    let direct: std::collections::BTreeSet<String> = sections
        .flat_map(|section| section.lines().skip(1))
        .filter_map(|line| line.split_once(" = ").map(|(name, _)| name.trim().to_owned()))
        .collect();
    let rows = read(root().join("docs/dependencies.md")).text;
    let used = rows.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.split('|').nth(2));
    let listed: std::collections::BTreeSet<String> =
        used.flat_map(|cell| cell.split('`').skip(1).step_by(2)).filter(|name| !name.contains('/')).map(str::to_owned).collect();
    assert!(direct.len() > 50, "{direct:?}");
    assert_eq!(listed, direct);
}
