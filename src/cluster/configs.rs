//! What `Config` documents and settings of applications make of the image's files, before anything reads them. Pure.

use std::path::{Component, Path, PathBuf};

use anyhow::Result;

use super::ImagePart;
use crate::clusterfile::{Clusterfile, Config};
use crate::error::Failure;

/// Applies everything that a Clusterfile says about files to what an image brings for one platform, in the order of the file.
///
/// # Errors
/// `Usage` if a path leads out of the root file system, or data or file are not the YAML that a merge needs.
pub fn apply(clusterfile: &Clusterfile, part: &mut ImagePart) -> Result<()> {
    for config in all(clusterfile) {
        let path = path_of(config)?;
        let current = part.files.get(&path).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let content = config.apply(current.as_deref())?.into_bytes();
        part.files.insert(path.clone(), content.clone());
        part.changed.insert(path, content);
    }
    Ok(())
}

fn all(clusterfile: &Clusterfile) -> impl Iterator<Item = &Config> {
    let of_apps = clusterfile.application.configs.iter().flat_map(|config| &config.files);
    clusterfile.configs.iter().chain(of_apps)
}

fn path_of(config: &Config) -> Result<PathBuf> {
    let path = Path::new(config.path.trim_start_matches('/'));
    if path.components().any(|part| !matches!(part, Component::Normal(_))) {
        let message = format!("config `{}`: the path {} leads out of the root file system", config.name, config.path);
        return Err(Failure::usage(message).into());
    }
    Ok(match &config.app {
        Some(app) => Path::new("application/apps").join(app).join(path),
        None => path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::image::tests::part;
    use crate::clusterfile::load;

    fn applied(path: &str, strategy: &str) -> Result<Option<String>> {
        let text = format!(
            "apiVersion: sealift.io/v1\nkind: Config\nmetadata: {{name: c}}\nspec: {{path: {path}, strategy: {strategy}, data: \"b: 2\\n\"}}\n"
        );
        let mut part = part([("etc/a.yaml", "a: 1\n")]);
        apply(&load("Clusterfile", &text)?, &mut part)?;
        Ok(part.changed.into_values().next().map(|bytes| String::from_utf8(bytes).unwrap()))
    }

    #[test]
    fn files_are_written_or_merged_and_nothing_leads_out() {
        assert_eq!(applied("etc/a.yaml", "overwrite").unwrap().unwrap(), "b: 2\n");
        assert_eq!(applied("etc/a.yaml", "merge").unwrap().unwrap(), "a: 1\nb: 2\n");
        assert_eq!(applied("etc/new.yaml", "merge").unwrap().unwrap(), "b: 2\n");
        assert!(applied("../etc/passwd", "overwrite").is_err() && applied("etc/./a", "overwrite").is_ok());
    }
}
