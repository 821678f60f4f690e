//! Trust in images: signatures and keys in cosign's formats, the trust policy (which images must be signed, and by whom), and SBOMs.
//!
//! A signature is a small manifest that refers to the image, in one of cosign's two formats: with payloads in the simple-signing format
//! (containers/image, `containers-signature.md`) as layers, or with a Sigstore bundle. Both are signed with ECDSA P-256, and either
//! program verifies what the other signed. All of it works offline.

mod bundle;
mod encrypted_key;
mod key;
mod pattern;
mod payload;
mod policy;
mod pull;
mod referrers;
mod sbom;
mod signature;
mod simple_signing;
mod statement;

pub use bundle::attested;
pub use key::{PrivateKey, PublicKey};
pub use pattern::Pattern;
pub use payload::Payload;
pub use policy::{Level, Policy, policy_schema};
pub use pull::{PullOptions, pull_verified};
pub use referrers::{admit, fetch_referrers, platform_manifests, pull_referrers, push_referrers};
pub use sbom::{attach, sbom};
pub use signature::{Claim, Format, SignatureRequirements, VerifiedSignature, is_signature, sign, verify};
pub use simple_signing::{adopt_signatures, tag_of_signatures};
pub use statement::Statement;
