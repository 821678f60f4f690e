//! Which files of a rootfs may name container images.

use std::path::{Component, Path};

use super::image_finder::{FoundImages, find_in_manifests};
use super::{image_list, kustomization};

/// How a file of the rootfs is searched for images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Kubernetes manifests, YAML or JSON.
    Manifests,
    /// A Go template of Kubernetes manifests (`*.tmpl`).
    Template,
    /// A list of images (`imageList`, and every file below `images/shim/`).
    List,
    /// The `Chart.yaml` of a Helm chart.
    Chart,
    /// A `kustomization.yaml`.
    Kustomization,
    /// A packed Helm chart (`.tgz`).
    PackedChart,
    /// Any other file of a directory that may be a chart.
    ChartPart,
}

impl FileKind {
    /// The kind of the file at `path` (relative to the rootfs); `None` if it is not searched.
    pub fn of(path: &Path) -> Option<FileKind> {
        let name = path.file_name()?.to_str()?;
        let inside = top(path);
        match (inside, name) {
            (Some("images"), _) => Some(FileKind::List),
            (Some(_), "Chart.yaml") => Some(FileKind::Chart),
            (Some("charts"), name) if name.ends_with(".tgz") && path.components().count() == 2 => Some(FileKind::PackedChart),
            (Some("charts"), _) => Some(FileKind::ChartPart),
            (None, _) => None,
            (_, "imageList") => Some(FileKind::List),
            (_, name) if kustomization::FILE_NAMES.contains(&name) => Some(FileKind::Kustomization),
            _ => match path.extension().and_then(|extension| extension.to_str()) {
                Some("yaml" | "yml" | "json") => Some(FileKind::Manifests),
                Some("tmpl") => Some(FileKind::Template),
                _ if inside != Some("manifests") => Some(FileKind::ChartPart),
                _ => None,
            },
        }
    }

    /// Finds the images in a file of this kind. Charts name none until they are rendered.
    pub fn read(self, bytes: &[u8]) -> FoundImages {
        let text = String::from_utf8_lossy(bytes);
        match self {
            FileKind::Manifests => find_in_manifests(&text, false),
            FileKind::Template => find_in_manifests(&text, true),
            FileKind::List => image_list::parse(&text),
            FileKind::Kustomization => kustomization::read(&text),
            FileKind::Chart | FileKind::PackedChart | FileKind::ChartPart => FoundImages::default(),
        }
    }
}

/// The application that a file belongs to: the directory below `application/apps`.
pub fn app_of(path: &Path) -> Option<&str> {
    let mut parts = path.components().filter_map(text_of);
    (parts.next() == Some("application") && parts.next() == Some("apps")).then(|| parts.next())?
}

fn top(path: &Path) -> Option<&str> {
    match path.components().find_map(text_of)? {
        top @ ("manifests" | "charts") => Some(top),
        "application" => app_of(path),
        // sealos reads every file there as a list
        "images" if path.starts_with("images/shim") => Some("images"),
        _ => None,
    }
}

fn text_of(component: Component<'_>) -> Option<&str> {
    match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_may_name_images_are_searched() {
        for (path, kind, app) in [
            ("manifests/a.yaml", Some(FileKind::Manifests), None),
            ("manifests/deep/er/a.json", Some(FileKind::Manifests), None),
            ("manifests/a.yaml.tmpl", Some(FileKind::Template), None),
            ("manifests/imageList", Some(FileKind::List), None),
            ("manifests/readme.md", None, None),
            ("application/apps/web/a.yml", Some(FileKind::Manifests), Some("web")),
            ("application/apps/web/imageList", Some(FileKind::List), Some("web")),
            ("application/apps/web/Chart.yaml", Some(FileKind::Chart), Some("web")),
            ("application/apps/web/base/kustomization.yaml", Some(FileKind::Kustomization), Some("web")),
            ("charts/web/Chart.yaml", Some(FileKind::Chart), None),
            ("charts/web/values.yaml", Some(FileKind::ChartPart), None),
            ("charts/web-1.0.0.tgz", Some(FileKind::PackedChart), None),
            ("application/apps/web/templates/NOTES.txt", Some(FileKind::ChartPart), Some("web")),
            ("images/shim/operatorImages", Some(FileKind::List), None),
            ("images/shim/deep/Chart.yaml", Some(FileKind::List), None),
            ("images/skopeo/tars.txt", None, None),
            ("etc/kubeadm.yml", None, None),
            ("imageList", None, None),
        ] {
            assert_eq!((FileKind::of(Path::new(path)), app_of(Path::new(path))), (kind, app), "{path}");
        }
    }
}
