//! Canonical JSON: the same content always gives the same bytes.

use anyhow::Result;
use serde::Serialize;

/// Serializes a document with the keys of all its objects sorted, so that the same content has the same digest.
pub fn canonical(document: &impl Serialize) -> Result<Vec<u8>> {
    let mut value = serde_json::to_value(document)?;
    value.sort_all_objects();
    Ok(serde_json::to_vec(&value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_maps_serialize_to_the_same_bytes() {
        let map = || (0..50).map(|number| (number.to_string(), number)).collect::<std::collections::HashMap<_, _>>();
        assert_eq!(canonical(&[map()]).unwrap(), canonical(&[map()]).unwrap());
    }
}
