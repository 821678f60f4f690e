//! Which Helm charts are rendered like. `docs/charts.md` lists what differs between them.

/// A version of Helm whose behaviour is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HelmVersion {
    /// Helm 3.17.3.
    #[default]
    V3,
    /// Helm 4.3.1.
    V4,
}

impl HelmVersion {
    /// The Kubernetes version that charts are rendered for where none is named.
    pub fn default_kube_version(self) -> &'static str {
        match self {
            HelmVersion::V3 => "v1.32.0",
            HelmVersion::V4 => "v1.37.0",
        }
    }

    /// The fields of `.Capabilities.HelmVersion`.
    pub fn build(self) -> &'static [(&'static str, &'static str)] {
        match self {
            HelmVersion::V3 => &[
                ("Version", "v3.17.3"),
                ("GitCommit", "e4da49785aa6e6ee2b86efd5dd9e43400318262b"),
                ("GitTreeState", "clean"),
                ("GoVersion", "go1.23.7"),
            ],
            HelmVersion::V4 => &[
                ("Version", "v4.3.1"),
                ("GitCommit", "c0d08d0d6d9424d4a14febb5e8a3e51b0dd00dff"),
                ("GitTreeState", "clean"),
                ("GoVersion", "go1.27.2"),
                ("KubeClientVersion", "v1.37"),
            ],
        }
    }
}
