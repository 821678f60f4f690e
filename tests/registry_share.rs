//! Images travel through a real registry unchanged, and only what is missing travels.

mod common;

use common::registry::DockerRegistry;

#[test]
fn docker_registry_starts_and_answers() {
    let registry = DockerRegistry::start();
    assert!(registry.host().starts_with("127.0.0.1:"));
}
