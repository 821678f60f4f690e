//! Clusterfiles: YAML documents to one checked, defaulted desired state. Pure.
