//! What `Config` documents, settings of applications and templates make of the image's files, before anything reads them. Pure.

use std::path::{Component, Path, PathBuf};

use anyhow::Result;

use super::ImagePart;
use super::image_content::is_looked_at;
use crate::clusterfile::{Clusterfile, Config, Env, Process, Strategy};
use crate::error::Failure;
use crate::template;

/// Where `*.tmpl` are rendered beside themselves, as Sealer does; those below `host/` are rendered where they are installed.
const RENDERED: [&str; 3] = ["etc", "charts", "manifests"];

/// Applies everything that a Clusterfile says about files to what an image brings for one platform, in the order of the file.
///
/// # Errors
/// `Usage` if a path leads out of the root file system, the image has no such application, or data or file are not the YAML
/// that a merge needs.
pub fn apply(clusterfile: &Clusterfile, part: &mut ImagePart) -> Result<()> {
    for config in all(clusterfile) {
        let path = path_of(config, part)?;
        let current = current(config, &path, part)?;
        let content = config.apply(current.as_deref())?.into_bytes();
        part.change(path, content);
    }
    Ok(())
}

/// Renders the templates of an image with the cluster's environment; the templates stay.
///
/// # Errors
/// `Usage` if a template is wrong, or prints what is not set.
pub fn render(part: &mut ImagePart, env: &Env) -> Result<()> {
    let is_template = |path: &Path| {
        path.extension().is_some_and(|extension| extension == "tmpl") && RENDERED.iter().any(|directory| path.starts_with(directory))
    };
    let templates: Vec<PathBuf> = part.files.keys().filter(|path| is_template(path)).cloned().collect();
    for path in templates {
        let text = String::from_utf8_lossy(&part.files[&path]);
        let rendered = template::render(&path.display().to_string(), &text, env)?;
        part.change(path.with_extension(""), rendered.into_bytes());
    }
    Ok(())
}

/// What a config's file holds before, where that matters.
fn current(config: &Config, path: &Path, part: &ImagePart) -> Result<Option<String>> {
    if config.strategy == Strategy::Overwrite && !config.process.contains(&Process::ToSecret) {
        return Ok(None);
    }
    let wrong = |why: &str| Failure::usage(format!("config `{}`: {} {why}", config.name, path.display()));
    if !is_looked_at(path) {
        return Err(wrong("is not a file that can be merged into").hint("`strategy: overwrite` works with every file").into());
    }
    part.files.get(path).map(|bytes| String::from_utf8(bytes.clone()).map_err(|_| wrong("is no text").into())).transpose()
}

fn all(clusterfile: &Clusterfile) -> impl Iterator<Item = &Config> {
    let of_apps = clusterfile.application.configs.iter().flat_map(|config| &config.files);
    clusterfile.configs.iter().chain(of_apps)
}

fn path_of(config: &Config, part: &ImagePart) -> Result<PathBuf> {
    let path: PathBuf = Path::new(config.path.trim_start_matches('/')).components().collect();
    if path.components().any(|part| !matches!(part, Component::Normal(_))) {
        let message = format!("config `{}`: the path {} leads out of the root file system", config.name, config.path);
        return Err(Failure::usage(message).into());
    }
    let Some(name) = &config.app else { return Ok(path) };
    match part.config.app(name) {
        Some(app) => Ok(Path::new(&app.root()).join(path)),
        None => {
            let known: Vec<&str> = part.config.apps.iter().map(|app| app.name.as_str()).collect();
            let message = format!("config `{}`: app name `{name}` is not found in [{}]", config.name, known.join(" "));
            Err(Failure::usage(message).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cluster::image_content::tests::part;
    use crate::clusterfile::load;
    use crate::image::{App, AppKind};

    /// What the run changes in an image with a few files, by path.
    fn changes(clusterfile: &str) -> Result<BTreeMap<String, String>> {
        let mut part = part([
            ("etc/a.yaml", "a: 1\n"),
            ("etc/kubeadm.yml.tmpl", "podSubnet: {{ .PodCIDR }}\n"),
            ("scripts/x.tmpl", "{{ .Never }}"),
            ("application/apps/web/values.yaml", "replicas: 1\nkeep: true\n"),
        ]);
        let app = App { name: "web".into(), kind: AppKind::Kube, files: vec![], env: Env::new(), cmds: vec![], role: None };
        part.config.apps.push(app);
        apply(&load("Clusterfile", clusterfile)?, &mut part)?;
        render(&mut part, &Env::from([("PodCIDR".to_owned(), "10.244.0.0/16".to_owned())]))?;
        Ok(part.changed.into_iter().map(|(path, bytes)| (path.display().to_string(), String::from_utf8(bytes).unwrap())).collect())
    }

    fn config(fields: &str) -> String {
        format!("apiVersion: sealift.io/v1\nkind: Config\nmetadata: {{name: c}}\nspec: {{{fields}}}\n")
    }

    #[test]
    fn files_are_written_or_merged_then_templates_rendered() {
        let cases = [
            (config("path: etc/a.yaml, data: 'b: 2'"), "etc/a.yaml", "b: 2"),
            (config("path: /etc/a.yaml, strategy: merge, data: {b: 2}"), "etc/a.yaml", "a: 1\nb: 2\n"),
            (config("path: etc/new.yaml, strategy: merge, data: {b: 2}"), "etc/new.yaml", "b: 2\n"),
            (config("path: bin/some, data: text"), "bin/some", "text"),
            (config("path: etc/./a, data: text"), "etc/a", "text"),
            (config("path: etc/a.yaml, data: x"), "etc/kubeadm.yml", "podSubnet: 10.244.0.0/16\n"),
            (config("path: etc/kubeadm.yml.tmpl, data: 'x: {{ .PodCIDR }}'"), "etc/kubeadm.yml", "x: 10.244.0.0/16"),
            (
                "kind: Application\nspec: {configs: [{name: web, files: [{path: values.yaml, strategy: merge, data: {replicas: 3}}]}]}\n"
                    .into(),
                "application/apps/web/values.yaml",
                "replicas: 3\nkeep: true\n",
            ),
        ];
        for (clusterfile, path, expected) in cases {
            assert_eq!(changes(&clusterfile).unwrap().get(path).map(String::as_str), Some(expected), "{clusterfile}");
        }
    }

    #[test]
    fn what_cannot_be_changed_is_named_and_nothing_leads_out() {
        let cases = [
            (config("path: a, data: x, appName: nosuch"), "config `c`: app name `nosuch` is not found in [web]"),
            (config("path: bin/x, data: {a: 1}, strategy: merge"), "config `c`: bin/x is not a file that can be merged into"),
            (config("path: etc/t.tmpl, data: '{{ .Unset }}'"), "etc/t.tmpl: not set: `Unset` (line 1)"),
            (config("path: ../etc/passwd, data: x"), "Clusterfile: 1 error"),
        ];
        for (clusterfile, expected) in cases {
            let error = format!("{:#}", changes(&clusterfile).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
