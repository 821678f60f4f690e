//! Container images that a cluster will run: found in manifests and lists, fetched untouched.
