//! The registry on site: OCI distribution straight out of the store.
