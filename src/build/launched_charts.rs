//! What launch commands do with `helm` that the images of a build do not follow from: charts that are not rendered, and values that the
//! build does not know.

use std::path::{Component, Path};

use crate::image::ClusterConfig;
use crate::workloads::{SourceLocation, UndecidedImage};

/// Options of helm that set values.
const VALUES: [&str; 7] = ["--set", "--set-string", "--set-file", "--set-json", "--set-literal", "--values", "-f"];

/// Options of helm that have a value, and none of the chart's: what follows them is no argument.
const WITH_VALUE: [&str; 15] = [
    "--namespace",
    "-n",
    "--version",
    "--timeout",
    "--kube-context",
    "--kubeconfig",
    "--repo",
    "--username",
    "--password",
    "--description",
    "--post-renderer",
    "--ca-file",
    "--output",
    "-o",
    "--history-max",
];

/// Lists the launch commands that install a chart of the image outside `charts/`, or set values. Commands of an application whose chart is
/// rendered are in its own folder.
pub fn undecided(cluster: &ClusterConfig) -> Vec<UndecidedImage> {
    let launch = cluster.launch.cmds.iter().map(|command| ("CMD".to_owned(), None, command));
    let apps =
        cluster.apps.iter().flat_map(|app| app.cmds.iter().map(|command| (format!("APPCMDS {}", app.name), Some(app.root()), command)));
    launch.chain(apps).flat_map(|(source, root, command)| of_command(&source, root.as_deref(), command)).collect()
}

fn of_command(source: &str, root: Option<&str>, command: &str) -> Vec<UndecidedImage> {
    let mut found = Vec::new();
    for (number, line) in command.lines().enumerate() {
        for part in line.split(['&', ';', '|']) {
            let tell = |text: &str, why: &str| UndecidedImage {
                place: SourceLocation::line(source, number + 1),
                text: text.to_owned(),
                why: why.to_owned(),
            };
            let Some(install) = Install::parse(part) else { continue };
            if let Some(chart) = install.chart.filter(|chart| is_unrendered(chart, root)) {
                let why =
                    "this chart is installed and not rendered: put it below charts/ or launch it with APP, or list its images with IMAGES";
                found.push(tell(&chart, why));
            }
            if let Some(option) = install.values {
                let why = "values of a launch command are not known to the build: write them into the chart's values.yaml, or list the images that they \
                           set with IMAGES";
                found.push(tell(&option, why));
            }
        }
    }
    found
}

/// A `helm install`, `helm upgrade` or `helm template`.
struct Install {
    chart: Option<String>,
    /// The first option that sets values.
    values: Option<String>,
}

impl Install {
    fn parse(command: &str) -> Option<Install> {
        let words: Vec<&str> = command.split_whitespace().map(|word| word.trim_matches(['"', '\'', '(', ')'])).collect();
        let helm = words.iter().position(|word| *word == "helm" || word.ends_with("/helm"))?;
        let (mut arguments, mut values, mut generated) = (Vec::new(), None, false);
        let mut rest = words[helm + 1..].iter();
        while let Some(word) = rest.next() {
            let name = word.split('=').next().unwrap_or(word);
            match *word {
                _ if VALUES.contains(&name) => {
                    let value = if word.contains('=') { None } else { rest.next() };
                    values.get_or_insert_with(|| [Some(word), value].into_iter().flatten().copied().collect::<Vec<_>>().join(" "));
                }
                "--generate-name" | "-g" => generated = true,
                word if WITH_VALUE.contains(&word) => drop(rest.next()),
                word if word.starts_with('-') => {}
                word => arguments.push(word),
            }
        }
        let chart = match arguments.as_slice() {
            ["install" | "template", chart] => Some(chart),
            ["install" | "template", chart, ..] if generated => Some(chart),
            ["install" | "upgrade" | "template", _, chart, ..] => Some(chart),
            ["install" | "upgrade" | "template"] => None,
            _ => return None,
        };
        Some(Install { chart: chart.map(|chart| (*chart).to_owned()), values })
    }
}

/// Whether a chart is a file or folder of the image that is not rendered, or one that is fetched.
fn is_unrendered(chart: &str, root: Option<&str>) -> bool {
    let mut parts = Path::new(chart).components().filter(|part| !matches!(part, Component::CurDir));
    match (parts.next(), root) {
        // an application is launched in its own folder, whose chart is rendered
        (_, Some(_)) => !chart.starts_with('.') && chart.contains(['/', ':']),
        (Some(Component::Normal(first)), None) => first != "charts" && !chart.starts_with("application/apps/"),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installs_that_the_build_does_not_follow_are_told() {
        for (root, command, expected) in [
            (None, "helm upgrade -i web web --set tag=2", vec!["web", "--set tag=2"]),
            (None, "helm upgrade -i web charts/web --namespace x", vec![]),
            (None, "helm install web ./charts/web -f site.yaml", vec!["-f site.yaml"]),
            (None, "kubectl apply -f a.yaml && helm install -g oci://example.com/web --version 1", vec!["oci://example.com/web"]),
            (None, "cd x; helm upgrade --install --set=a=b web bitnami/web", vec!["bitnami/web", "--set=a=b"]),
            (None, "helm repo add a https://example.com", vec![]),
            (None, "echo done", vec![]),
            (Some("application/apps/web"), "helm install web . --values v.yaml", vec!["--values v.yaml"]),
            (Some("application/apps/web"), "helm install web web", vec![]),
        ] {
            let texts: Vec<String> = of_command("CMD", root, command).into_iter().map(|found| found.text).collect();
            assert_eq!(texts, expected, "{command}");
        }
    }
}
