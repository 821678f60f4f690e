//! Holds the direction of dependencies of `docs/architecture.md`: a module uses modules of its own layer or below, never above.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The layer of each module, as `docs/architecture.md` says.
fn layers() -> BTreeMap<String, u32> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/architecture.md")).unwrap();
    let mut layers = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let Ok(layer) = cells[cells.len() - 2].parse() else { continue };
        for module in cells[1].split('`').filter(|part| !part.trim().is_empty()) {
            layers.insert(module.trim_end_matches('/').trim_end_matches(".rs").to_owned(), layer);
        }
    }
    layers
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The modules that a line uses: `use crate::store::Store`, `crate::{error::Failure, events}`.
fn used(line: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut modules = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            for part in group.split_inclusive([',', '{', '}']) {
                if depth == 0 {
                    modules.push(word(part.trim()));
                }
                depth += i32::from(part.ends_with('{')) - i32::from(part.ends_with('}'));
            }
        } else {
            modules.push(word(rest));
        }
    }
    modules.retain(|module| !module.is_empty());
    modules
}

#[test]
fn dependencies_point_down() {
    let src = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let layers = layers();
    assert!(layers.len() > 15, "docs/architecture.md has lost its table of modules: {layers:?}");
    let mut files = Vec::new();
    sources(src, &mut files);
    let mut wrong = Vec::new();
    for file in &files {
        let relative = file.strip_prefix(src).unwrap();
        let module = relative.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        let Some(layer) = layers.get(&module) else {
            wrong.push(format!("{module} is not in the table of docs/architecture.md"));
            continue;
        };
        for (number, line) in std::fs::read_to_string(file).unwrap().lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for other in used(line) {
                if layers.get(&other).is_some_and(|above| above > layer) {
                    wrong.push(format!("src/{}:{}: `{module}` (layer {layer}) uses `{other}` above it", relative.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_is_in_the_map() {
    let map = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs")).unwrap();
    for module in layers().keys() {
        assert!(map.contains(&format!("pub mod {module};")), "{module} stands in docs/architecture.md and not in src/lib.rs");
    }
}
