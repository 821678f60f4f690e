//! Overrides files of the image with `Config` documents and application settings of the Clusterfile, and renders templates. Pure.

use std::path::{Component, Path, PathBuf};

use anyhow::Result;

use super::ImagePart;
use super::image_content::is_small_file;
use crate::app::no_such_app;
use crate::clusterfile::{Clusterfile, Config, Env, Process, Strategy};
use crate::error::Failure;
use crate::template;

/// Directories whose `*.tmpl` files are rendered into the same directory, as Sealer does. Templates below `host/` are rendered when
/// they are installed.
const TEMPLATE_DIRECTORIES: [&str; 3] = ["etc", "charts", "manifests"];

/// Applies the file overrides of a Clusterfile to an image's content for one platform, in the order of the Clusterfile.
///
/// # Errors
/// `Usage` if a path leaves the root file system, the image has no such application, or a merge meets data or a file that is
/// not a YAML mapping.
pub fn apply(clusterfile: &Clusterfile, part: &mut ImagePart) -> Result<()> {
    for config in configs(clusterfile) {
        let path = path_of(config, part)?;
        let current = current(config, &path, part)?;
        let content = config.apply(current.as_deref())?.into_bytes();
        part.override_file(path, content);
    }
    Ok(())
}

/// Renders the templates of an image with the cluster's environment: `x.yml.tmpl` to `x.yml`.
///
/// # Errors
/// `Usage` if a template does not parse, or prints a variable that is not set.
pub fn render(part: &mut ImagePart, env: &Env) -> Result<()> {
    let is_template = |path: &Path| {
        path.extension().is_some_and(|extension| extension == "tmpl")
            && TEMPLATE_DIRECTORIES.iter().any(|directory| path.starts_with(directory))
    };
    let templates: Vec<PathBuf> = part.files.keys().filter(|path| is_template(path)).cloned().collect();
    for path in templates {
        let text = String::from_utf8_lossy(&part.files[&path]);
        let rendered = template::render(&path.display().to_string(), &text, env)?;
        part.override_file(path.with_extension(""), rendered.into_bytes());
    }
    Ok(())
}

/// The content of the file before the override, if the strategy needs it.
fn current(config: &Config, path: &Path, part: &ImagePart) -> Result<Option<String>> {
    if config.strategy == Strategy::Overwrite && !config.process.contains(&Process::ToSecret) {
        return Ok(None);
    }
    let refuse = |why: &str| Failure::usage(format!("config `{}`: {} {why}", config.name, path.display()));
    if !is_small_file(path) {
        return Err(refuse("cannot be merged: not a text file of the image that sealift reads")
            .hint("set `strategy: overwrite`, which works with every file")
            .into());
    }
    part.files
        .get(path)
        .map(|bytes| {
            String::from_utf8(bytes.clone())
                .map_err(|_| refuse("is not UTF-8 text").hint("set `strategy: overwrite` to replace the file").into())
        })
        .transpose()
}

fn configs(clusterfile: &Clusterfile) -> impl Iterator<Item = &Config> {
    let of_apps = clusterfile.application.configs.iter().flat_map(|config| &config.files);
    clusterfile.configs.iter().chain(of_apps)
}

fn path_of(config: &Config, part: &ImagePart) -> Result<PathBuf> {
    let path: PathBuf = Path::new(config.path.trim_start_matches('/')).components().collect();
    if path.components().any(|part| !matches!(part, Component::Normal(_))) {
        let message = format!("config `{}`: path {} leaves the root file system", config.name, config.path);
        return Err(Failure::usage(message).hint("write a path relative to the root of the image, without `..`").into());
    }
    let Some(name) = &config.app else { return Ok(path) };
    match part.config.app(name) {
        Some(app) => Ok(Path::new(&app.root()).join(path)),
        None => {
            let message = format!("config `{}`: {}", config.name, no_such_app(&part.config, name));
            Err(Failure::usage(message).hint("correct `appName`, or remove it for a path from the root of the image").into())
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

    /// The files that a Clusterfile overrides in an image with a few files, by path.
    fn overridden(clusterfile: &str) -> Result<BTreeMap<String, String>> {
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
        Ok(part.overridden.into_iter().map(|(path, bytes)| (path.display().to_string(), String::from_utf8(bytes).unwrap())).collect())
    }

    fn config(fields: &str) -> String {
        format!("apiVersion: sealift.io/v1\nkind: Config\nmetadata: {{name: c}}\nspec: {{{fields}}}\n")
    }

    #[test]
    fn files_are_overwritten_or_merged_then_templates_are_rendered() {
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
            assert_eq!(overridden(&clusterfile).unwrap().get(path).map(String::as_str), Some(expected), "{clusterfile}");
        }
    }

    #[test]
    fn overrides_that_cannot_be_applied_are_refused_with_their_name() {
        let cases = [
            (config("path: a, data: x, appName: nosuch"), "config `c`: no such app: nosuch (the image has web)"),
            (config("path: bin/x, data: {a: 1}, strategy: merge"), "config `c`: bin/x cannot be merged"),
            (config("path: etc/t.tmpl, data: '{{ .Unset }}'"), "etc/t.tmpl: not set: `Unset` (line 1)"),
            (config("path: ../etc/passwd, data: x"), "Clusterfile: 1 error"),
        ];
        for (clusterfile, expected) in cases {
            let error = format!("{:#}", overridden(&clusterfile).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
