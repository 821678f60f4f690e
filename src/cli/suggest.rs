//! Unknown commands: which command of sealift was meant, also by the words of docker, podman, kubeadm, k0sctl, helm and Sealer.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

use crate::diagnostic::did_you_mean;

/// What other tools call things, and what that is here.
const OTHER_WORDS: [(&[&str], &str); 27] = [
    (&["upgrade", "update"], "upgrading a cluster in place is not there yet; `sealift plan` shows what `apply` would change"),
    (
        &["join", "add", "delete-node", "drain"],
        "`sealift scale --nodes ADDRESSES`, or change the hosts in the Clusterfile and `sealift apply -f Clusterfile`",
    ),
    (&["ls", "list", "image"], "`sealift images` lists images, `sealift status` shows a cluster"),
    (&["ps", "get", "top", "nodes"], "`sealift status` shows a cluster and its hosts; for more use kubectl with `sealift kubeconfig`"),
    (&["describe", "show"], "`sealift inspect IMAGE` shows an image, `sealift status` a cluster"),
    (&["up", "create", "install", "start", "deploy", "bootstrap"], "`sealift run -f Clusterfile` brings up a cluster"),
    (&["down", "delete", "destroy", "uninstall", "stop", "teardown"], "`sealift reset` takes a cluster down"),
    (&["rm", "remove", "untag"], "`sealift rmi NAME` removes an image's name, `sealift reset` takes a cluster down"),
    (&["log", "events"], "`sealift logs` shows the logs of runs; `sealift exec -- journalctl -u kubelet` reads those of the hosts"),
    (&["export"], "`sealift save -o FILE NAME` writes an archive, `sealift unpack NAME DIR` the files of an image"),
    (&["import"], "`sealift load -i FILE` reads an archive"),
    (&["cp", "copy"], "`sealift pull` and `sealift push` copy images through registries, `save` and `load` through archives"),
    (&["cert", "certs", "renew"], "renewing certificates is not there yet; `sealift exec -- kubeadm certs renew all` does it on the hosts"),
    (
        &["gen", "generate", "new", "scaffold"],
        "`sealift init` writes a Kubefile and a Clusterfile to start from; `sealift key generate` makes keys",
    ),
    (&["mount", "umount"], "mounting is not there yet; `sealift unpack NAME DIR` writes the files of an image"),
    (&["search"], "searching registries is not there yet; `sealift pull NAME` gets an image whose name is known"),
    (&["template", "render"], "`sealift chart render CHART` does what `helm template` does"),
    (&["ssh", "shell", "sh"], "`sealift exec -- COMMAND` runs a command on all hosts"),
    (&["config"], "`sealift kubeconfig` prints the cluster's kubeconfig"),
    (&["validate", "verify-config"], "`sealift lint FILE` checks Kubefiles and Clusterfiles"),
    (&["preflight", "doctor"], "`sealift check -f Clusterfile` checks the hosts"),
    (&["gc", "clean", "system"], "`sealift prune` frees disk space"),
    (&["commit"], "images are built: `sealift build -t NAME .`"),
    (&["attest", "attach"], "`sealift sbom --attach NAME` attaches an SBOM; other attestations are not there yet"),
    (&["serve"], "`sealift registry serve` serves the store as a registry"),
    (&["backup", "restore", "snapshot"], "backups of etcd are not there yet"),
    (&["man", "docs"], "`sealift COMMAND --help` has every option and examples"),
];

/// The error with a better hint, if it is about a command that does not exist.
pub fn explain(mut error: Error, command: &Command, args: &[String]) -> Error {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return error;
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand).cloned() else { return error };
    let is_first = args.iter().skip(1).find(|arg| **arg == word || command.find_subcommand(arg).is_some()) == Some(&word);
    if !is_first {
        return error;
    }
    error.remove(ContextKind::SuggestedSubcommand);
    let visible = command.get_subcommands().filter(|command| !command.is_hide_set()).map(Command::get_name);
    if let Some(meaning) = meaning(&word) {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![meaning.into()]));
    } else if let Some(name) = did_you_mean(&word, visible) {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![name.to_owned()]));
    }
    error
}

/// What a word of another tool is here.
fn meaning(word: &str) -> Option<&'static str> {
    OTHER_WORDS.iter().find(|(words, _)| words.contains(&word)).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(word: &str) -> String {
        let args = ["sealift".to_owned(), word.to_owned()];
        let error = super::super::command().try_get_matches_from(&args).unwrap_err();
        explain(error, &super::super::command(), &args).render().to_string()
    }

    #[test]
    fn words_of_other_tools_lead_to_our_commands() {
        for (word, expected) in [
            ("ls", "`sealift images`"),
            ("up", "`sealift run"),
            ("destroy", "`sealift reset`"),
            ("upgrade", "not there yet"),
            ("export", "`sealift save"),
            ("biuld", "'build'"),
            ("agnet", "unrecognized subcommand 'agnet'"),
        ] {
            assert!(says(word).contains(expected), "{word}: {}", says(word));
        }
        assert!(!says("agnet").contains("'agent'"), "hidden commands are not suggested");
    }

    #[test]
    fn no_word_is_a_command_or_listed_twice_and_every_command_that_is_named_exists() {
        let command = super::super::command();
        let mut words: Vec<&str> = OTHER_WORDS.iter().flat_map(|(words, _)| words.iter().copied()).collect();
        let visible = |word: &&&str| command.find_subcommand(word).is_some_and(|found| !found.is_hide_set());
        assert_eq!(words.iter().find(visible), None);
        words.sort_unstable();
        assert!(words.windows(2).all(|pair| pair[0] != pair[1]), "{words:?}");
        for (_, meaning) in OTHER_WORDS {
            for name in meaning.split("`sealift ").skip(1).filter_map(|rest| rest.split([' ', '`']).next()) {
                assert!(name == "COMMAND" || command.find_subcommand(name).is_some(), "{name}: {meaning}");
            }
        }
    }
}
