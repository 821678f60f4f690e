//! The API versions that a Kubernetes cluster has by default, for Kubernetes 1.20 to 1.37.
//!
//! Made from the repository `kubernetes/api`, v0.20.0 to v0.36.0 and its development for 1.37: a version is there if one of its kinds has been
//! introduced and not been removed (`APILifecycleIntroduced`, `APILifecycleRemoved`). By the rule of the API server
//! (`DefaultAPIResourceConfigSource`) alpha versions are not, and beta versions only if they were introduced before 1.24, or are
//! `flowcontrol.apiserver.k8s.io/v1beta3`. Added are those of `apiextensions.k8s.io` and `apiregistration.k8s.io`, which have repositories of their
//! own.

use std::ops::RangeInclusive;

/// The first minor version of Kubernetes 1 that is known.
const FIRST: u64 = 20;
/// The last one.
const LAST: u64 = 37;

/// The minor versions of Kubernetes 1 whose API versions are known.
pub const KUBERNETES_MINORS: RangeInclusive<u64> = FIRST..=LAST;

/// API versions, each with the first and the last minor version of Kubernetes 1 that have it.
const API_VERSIONS: [(&str, u64, u64); 45] = [
    ("v1", 20, LAST),
    ("admissionregistration.k8s.io/v1", 20, LAST),
    ("admissionregistration.k8s.io/v1beta1", 20, 21),
    ("apiextensions.k8s.io/v1", 20, LAST),
    ("apiextensions.k8s.io/v1beta1", 20, 21),
    ("apiregistration.k8s.io/v1", 20, LAST),
    ("apiregistration.k8s.io/v1beta1", 20, 21),
    ("apps/v1", 20, LAST),
    ("authentication.k8s.io/v1", 20, LAST),
    ("authentication.k8s.io/v1beta1", 20, 21),
    ("authorization.k8s.io/v1", 20, LAST),
    ("authorization.k8s.io/v1beta1", 20, 21),
    ("autoscaling/v1", 20, LAST),
    ("autoscaling/v2", 23, LAST),
    ("autoscaling/v2beta1", 20, 24),
    ("autoscaling/v2beta2", 20, 25),
    ("batch/v1", 20, LAST),
    ("batch/v1beta1", 20, 24),
    ("certificates.k8s.io/v1", 20, LAST),
    ("certificates.k8s.io/v1beta1", 20, 21),
    ("coordination.k8s.io/v1", 20, LAST),
    ("coordination.k8s.io/v1beta1", 20, 21),
    ("discovery.k8s.io/v1", 21, LAST),
    ("discovery.k8s.io/v1beta1", 20, 24),
    ("events.k8s.io/v1", 20, LAST),
    ("events.k8s.io/v1beta1", 20, 24),
    ("extensions/v1beta1", 20, 21),
    ("flowcontrol.apiserver.k8s.io/v1", 29, LAST),
    ("flowcontrol.apiserver.k8s.io/v1beta1", 20, 25),
    ("flowcontrol.apiserver.k8s.io/v1beta2", 23, 28),
    ("flowcontrol.apiserver.k8s.io/v1beta3", 26, 31),
    ("networking.k8s.io/v1", 20, LAST),
    ("networking.k8s.io/v1beta1", 20, 21),
    ("node.k8s.io/v1", 20, LAST),
    ("node.k8s.io/v1beta1", 20, 24),
    ("policy/v1", 21, LAST),
    ("policy/v1beta1", 20, 24),
    ("rbac.authorization.k8s.io/v1", 20, LAST),
    ("rbac.authorization.k8s.io/v1beta1", 20, 21),
    ("resource.k8s.io/v1", 34, LAST),
    ("scheduling.k8s.io/v1", 20, LAST),
    ("scheduling.k8s.io/v1beta1", 20, 21),
    ("storage.k8s.io/v1", 20, LAST),
    ("storage.k8s.io/v1beta1", 20, 26),
    ("storagemigration.k8s.io/v1", 37, LAST),
];

/// The API versions of a cluster with Kubernetes 1.`minor`. Older ones have those of 1.20, newer ones those of 1.37.
pub fn of_kubernetes(minor: u64) -> impl Iterator<Item = &'static str> {
    let minor = minor.clamp(FIRST, LAST);
    API_VERSIONS.iter().filter(move |(_, first, last)| (*first..=*last).contains(&minor)).map(|(version, ..)| *version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_and_go_with_kubernetes() {
        for (version, minors) in [
            ("autoscaling/v2", vec![23, 24, 30, 37, 40]),
            ("autoscaling/v2beta2", vec![16, 20, 25]),
            ("policy/v1", vec![21, 30]),
            ("policy/v1beta1", vec![20, 24]),
            ("batch/v1beta1", vec![20, 24]),
            ("extensions/v1beta1", vec![20, 21]),
            ("networking.k8s.io/v1beta1", vec![20, 21]),
            ("flowcontrol.apiserver.k8s.io/v1beta3", vec![26, 31]),
            ("flowcontrol.apiserver.k8s.io/v1", vec![29, 37]),
            ("storage.k8s.io/v1beta1", vec![20, 26]),
            ("resource.k8s.io/v1", vec![34, 37]),
        ] {
            for minor in minors {
                assert!(of_kubernetes(minor).any(|one| one == version), "{version} in 1.{minor}");
            }
        }
        for (version, minor) in
            [("autoscaling/v2", 22), ("autoscaling/v2beta2", 26), ("policy/v1beta1", 25), ("batch/v1beta1", 30), ("v1alpha1", 30)]
        {
            assert!(!of_kubernetes(minor).any(|one| one == version), "{version} in 1.{minor}");
        }
    }
}
