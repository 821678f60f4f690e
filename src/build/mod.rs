//! Executes a Kubefile: context and base image to layers, workloads and a cluster image in the store.

mod context;
mod ignore;
mod layout;
mod place;
