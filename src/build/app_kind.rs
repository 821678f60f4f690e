//! Detects the kind of an application by its files (Sealer's rules, and kustomizations).

use std::path::Path;

use super::copy_destination::Item;
use crate::image::AppKind;
use crate::layer::Source;
use crate::workloads::kustomization::FILE_NAMES as KUSTOMIZATION_NAMES;

/// A detected application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// The kind; [`AppKind::Unknown`] needs APPCMDS.
    pub kind: AppKind,
    /// The files that are launched, in order, relative to the application's directory.
    pub files: Vec<String>,
}

/// Detects the kind of an application from its sources.
pub fn detect(name: &str, sources: &[Item]) -> Detected {
    let files = files(sources);
    let has = |name: &str| files.iter().any(|file| file == name);
    let all = |endings: &[&str]| !files.is_empty() && files.iter().all(|file| endings.iter().any(|ending| file.ends_with(ending)));
    let kind = if has("Chart.yaml") {
        return Detected { kind: AppKind::Helm, files: vec![name.to_owned()] };
    } else if KUSTOMIZATION_NAMES.iter().any(|name| has(name)) {
        return Detected { kind: AppKind::Kustomize, files: vec![".".to_owned()] };
    } else if all(&[".sh"]) {
        AppKind::Shell
    } else if all(&[".yaml", ".yml", ".json"]) {
        AppKind::Kube
    } else {
        AppKind::Unknown
    };
    Detected { kind, files }
}

/// The names of the files on a host: without `.tmpl`, as templates are rendered; without image lists, as they launch nothing.
fn files(sources: &[Item]) -> Vec<String> {
    let mut files = Vec::new();
    for item in sources {
        for (path, entry) in &item.tree {
            let path = if path.as_os_str().is_empty() { &item.name } else { path };
            let is_file = matches!(entry.source, Source::File(..) | Source::Bytes(_) | Source::Symlink(_) | Source::Hardlink(_));
            if is_file && path.file_name() != Some("imageList".as_ref()) {
                let name = rendered_name(path);
                if !files.contains(&name) {
                    files.push(name);
                }
            }
        }
    }
    files
}

fn rendered_name(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.strip_suffix(".tmpl").unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Entry, Tree};
    use std::path::PathBuf;

    fn item(name: &str, files: &[&str]) -> Item {
        let entry = |source| Entry { source, mode: 0o644, uid: 0, gid: 0, mtime: 0, xattrs: Default::default() };
        let mut tree: Tree = files.iter().map(|file| (PathBuf::from(file), entry(Source::Bytes(vec![])))).collect();
        if !files.contains(&"") {
            tree.insert(PathBuf::new(), entry(Source::Directory));
        }
        Item { name: name.into(), tree }
    }

    #[test]
    fn kinds_are_detected_by_the_files() {
        for (what, sources, kind, files) in [
            ("manifests", vec![item("d", &["b.yaml", "a.yml", "x/c.json"])], AppKind::Kube, vec!["a.yml", "b.yaml", "x/c.json"]),
            ("files in order", vec![item("b.sh", &[""]), item("a.sh", &[""])], AppKind::Shell, vec!["b.sh", "a.sh"]),
            ("templates", vec![item("a.yaml.tmpl", &[""])], AppKind::Kube, vec!["a.yaml"]),
            ("image list beside", vec![item("d", &["a.yaml", "imageList"])], AppKind::Kube, vec!["a.yaml"]),
            ("chart", vec![item("d", &["Chart.yaml", "values.yaml", "templates/a.yaml"])], AppKind::Helm, vec!["web"]),
            ("kustomization", vec![item("d", &["kustomization.yaml", "a.yaml"])], AppKind::Kustomize, vec!["."]),
            ("kustomization without ending", vec![item("d", &["Kustomization", "a.yaml"])], AppKind::Kustomize, vec!["."]),
            ("mixed", vec![item("d", &["a.sh", "b.yaml"])], AppKind::Unknown, vec!["a.sh", "b.yaml"]),
            ("nothing", vec![item("d", &[])], AppKind::Unknown, vec![]),
        ] {
            let detected = detect("web", &sources);
            assert_eq!((detected.kind, detected.files), (kind, files.into_iter().map(str::to_owned).collect()), "{what}");
        }
    }
}
