//! Kubefiles: text to checked instructions with source spans. Pure.
