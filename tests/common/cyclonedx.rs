//! Holds bills of materials to CycloneDX's own schema.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use super::kubefiles::cyclonedx;

struct Schemas(PathBuf);

impl Schemas {
    fn read(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.0.join(name)).expect("the schema is there")).expect("a schema is JSON")
    }
}

impl jsonschema::Retrieve for Schemas {
    fn retrieve(&self, uri: &jsonschema::Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.read(uri.as_str().rsplit('/').next().unwrap_or_default()))
    }
}

/// Panics unless the bill is as the schema of CycloneDX 1.6 wants it, and tells its components apart.
pub fn assert_is_cyclonedx(bom: &Value) {
    let schemas = Schemas(cyclonedx());
    let schema = schemas.read("bom-1.6.SNAPSHOT.schema.json");
    let validator = jsonschema::options().should_validate_formats(true).with_retriever(schemas).build(&schema).expect("a sound schema");
    let wrong: Vec<String> = validator.iter_errors(bom).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let (mut components, mut references) = (vec![&bom["metadata"]["component"]], BTreeSet::new());
    all(&bom["components"], &mut components);
    for component in components {
        assert!(references.insert(component["bom-ref"].as_str().expect("every component has one")), "twice: {component}");
    }
}

/// Every component below, with those inside of components.
fn all<'a>(components: &'a Value, found: &mut Vec<&'a Value>) {
    for component in components.as_array().into_iter().flatten() {
        found.push(component);
        all(&component["components"], found);
    }
}
