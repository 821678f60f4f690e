//! Trust in images: signatures and keys in cosign's formats, the trust policy (which images must be signed, and by whom), and SBOMs.
//!
//! A signature is a small manifest that refers to the image; its layers are payloads in the simple-signing format
//! (containers/image, `containers-signature.md`), signed with ECDSA P-256 in an annotation. It is cosign's own format, so that
//! either program verifies what the other signed. All of it works offline.

mod encrypted_key;
mod key;
mod pattern;
mod payload;
mod policy;
mod pull;
mod referrers;
mod sbom;
mod signature;

pub use key::{PrivateKey, PublicKey};
pub use pattern::Pattern;
pub use payload::Payload;
pub use policy::{Level, Policy, policy_schema};
pub use pull::{PullOptions, pull_verified};
pub use referrers::{admit, fetch_referrers, platform_manifests, pull_referrers, push_referrers};
pub use sbom::{attach, sbom};
pub use signature::{SignatureRequirements, VerifiedSignature, is_signatures, sign, verify};
