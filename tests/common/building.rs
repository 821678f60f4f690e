//! Contexts to build, and what the built images have in them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::run;
use super::sealift::Sealift;

/// Writes a file, with the directories above it.
pub fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("it is there")).expect("it is there");
    fs::write(path, text).expect("it is there");
}

/// sealift and a context with these files.
pub fn context(files: &[(&str, &str)]) -> (Sealift, String) {
    let sealift = Sealift::new();
    let dir = sealift.home().join("context");
    for (file, text) in files {
        write(&dir.join(file), text);
    }
    (sealift, dir.display().to_string())
}

/// Where the store has a blob.
pub fn blob(sealift: &Sealift, digest: &Value) -> PathBuf {
    sealift.store_root().join("blobs/sha256").join(digest.as_str().expect("it is there").strip_prefix("sha256:").expect("it is there"))
}

/// A document of the store.
pub fn document(sealift: &Sealift, digest: &Value) -> Value {
    serde_json::from_slice(&fs::read(blob(sealift, digest)).expect("it is there")).expect("it is there")
}

/// Builds, and gives for each path of all layers what `tar` says of it: mode, owner, and a link's target.
pub fn built(sealift: &Sealift, context: &str) -> BTreeMap<String, String> {
    let built = sealift.json(&["build", "-t", "shop:1", "--compression", "gzip", context]);
    let index = document(sealift, &built["digest"]);
    let rootfs = document(sealift, &index["manifests"][0]["digest"]);
    let mut found = BTreeMap::new();
    for layer in rootfs["layers"].as_array().expect("it is there") {
        let text = run("tar", &["--numeric-owner", "-tvzf", blob(sealift, &layer["digest"]).to_str().expect("it is there")]);
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            found
                .insert(words[5].trim_end_matches('/').to_owned(), [words[0], words[1], &words[6..].join(" ")].join(" ").trim().to_owned());
        }
    }
    found
}
