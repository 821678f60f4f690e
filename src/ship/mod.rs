//! Brings blobs to hosts: only what is missing, verified, resumable.
