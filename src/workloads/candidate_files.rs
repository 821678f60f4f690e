//! Which files of a rootfs name container images.

use std::path::{Component, Path};

use super::image_finder::{Finds, in_manifests};
use super::{image_list, kustomization};

/// What a file of the rootfs is to the finder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Manifests, YAML or JSON.
    Manifests,
    /// A Go template of manifests.
    Template,
    /// A list of images.
    List,
    /// The `Chart.yaml` of a Helm chart.
    Chart,
    /// A `kustomization.yaml`.
    Kustomization,
    /// A Helm chart in an archive.
    PackedChart,
    /// A file that means something only if it is in a chart.
    ChartPart,
}

impl Kind {
    /// What the file at `path` (relative to the rootfs) is; `None` if nobody looks for images there.
    pub fn of(path: &Path) -> Option<Kind> {
        let name = path.file_name()?.to_str()?;
        let inside = top(path);
        match (inside, name) {
            (Some(_), "Chart.yaml") => Some(Kind::Chart),
            (Some("charts"), name) if name.ends_with(".tgz") && path.components().count() == 2 => Some(Kind::PackedChart),
            (Some("charts"), _) => Some(Kind::ChartPart),
            (None, _) => None,
            (_, "imageList") => Some(Kind::List),
            (_, name) if kustomization::FILE_NAMES.contains(&name) => Some(Kind::Kustomization),
            _ => match path.extension().and_then(|extension| extension.to_str()) {
                Some("yaml" | "yml" | "json") => Some(Kind::Manifests),
                Some("tmpl") => Some(Kind::Template),
                _ if inside != Some("manifests") => Some(Kind::ChartPart),
                _ => None,
            },
        }
    }

    /// Reads a file of this kind.
    pub fn read(self, bytes: &[u8]) -> Finds {
        let text = String::from_utf8_lossy(bytes);
        match self {
            Kind::Manifests => in_manifests(&text, false),
            Kind::Template => in_manifests(&text, true),
            Kind::List => image_list::parse(&text),
            Kind::Kustomization => kustomization::read(&text),
            Kind::Chart | Kind::PackedChart | Kind::ChartPart => Finds::default(),
        }
    }
}

/// The application whose folder the file is in.
pub fn app_of(path: &Path) -> Option<&str> {
    let mut parts = path.components().filter_map(text_of);
    (parts.next() == Some("application") && parts.next() == Some("apps")).then(|| parts.next())?
}

fn top(path: &Path) -> Option<&str> {
    match path.components().find_map(text_of)? {
        top @ ("manifests" | "charts") => Some(top),
        "application" => app_of(path),
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
    fn files_are_looked_for_where_images_are_named() {
        for (path, kind, app) in [
            ("manifests/a.yaml", Some(Kind::Manifests), None),
            ("manifests/deep/er/a.json", Some(Kind::Manifests), None),
            ("manifests/a.yaml.tmpl", Some(Kind::Template), None),
            ("manifests/imageList", Some(Kind::List), None),
            ("manifests/readme.md", None, None),
            ("application/apps/web/a.yml", Some(Kind::Manifests), Some("web")),
            ("application/apps/web/imageList", Some(Kind::List), Some("web")),
            ("application/apps/web/Chart.yaml", Some(Kind::Chart), Some("web")),
            ("application/apps/web/base/kustomization.yaml", Some(Kind::Kustomization), Some("web")),
            ("charts/web/Chart.yaml", Some(Kind::Chart), None),
            ("charts/web/values.yaml", Some(Kind::ChartPart), None),
            ("charts/web-1.0.0.tgz", Some(Kind::PackedChart), None),
            ("application/apps/web/templates/NOTES.txt", Some(Kind::ChartPart), Some("web")),
            ("etc/kubeadm.yml", None, None),
            ("imageList", None, None),
        ] {
            assert_eq!((Kind::of(Path::new(path)), app_of(Path::new(path))), (kind, app), "{path}");
        }
    }
}
