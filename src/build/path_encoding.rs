//! Paths as JSON strings (for serde). A path that is not UTF-8 is written as a NUL, which no path contains, and its bytes in hexadecimal.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

fn text(path: &Path) -> String {
    path.to_str().map_or_else(|| format!("\0{}", hex::encode(path.as_os_str().as_bytes())), str::to_owned)
}

fn path(text: String) -> Result<PathBuf, hex::FromHexError> {
    match text.strip_prefix('\0') {
        Some(bytes) => Ok(PathBuf::from(OsString::from_vec(hex::decode(bytes)?))),
        None => Ok(PathBuf::from(text)),
    }
}

pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    text(path).serialize(serializer)
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    path(String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Maps whose keys are paths.
pub mod keys {
    use super::*;

    pub fn serialize<V: Serialize, S: Serializer>(map: &BTreeMap<PathBuf, V>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(path, value)| (text(path), value)))
    }

    pub fn deserialize<'de, V: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<PathBuf, V>, D::Error> {
        let map = BTreeMap::<String, V>::deserialize(deserializer)?;
        map.into_iter().map(|(text, value)| Ok((path(text).map_err(D::Error::custom)?, value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::rootfs_view::{Entry, RootfsView};

    #[test]
    fn any_path_is_read_as_it_was_written() {
        let odd = PathBuf::from(OsString::from_vec(b"dir/\xff".to_vec()));
        let mut view = RootfsView::default();
        view.put(Path::new("plain ä"), Entry::File);
        view.put(&odd, Entry::Link(odd.clone()));
        let json = serde_json::to_string(&view).unwrap();
        assert_eq!(serde_json::from_str::<RootfsView>(&json).unwrap(), view, "{json}");
        assert!(serde_json::from_str::<RootfsView>("{\"\\u0000xx\":\"file\"}").is_err());
    }
}
