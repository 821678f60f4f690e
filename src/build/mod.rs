//! Builds cluster images: executes a Kubefile's instructions.
