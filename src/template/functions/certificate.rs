//! Certificates and keys, after sprig's `crypto.go`. Certificates get ECDSA P-256 keys, where sprig makes RSA.

use std::net::IpAddr;

use p256::pkcs8::LineEnding;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::rand_core::{TryCryptoRng, TryRng};

use super::{Result, Row, int, string, text};
use crate::template::{JsonNames, Struct, Value};

/// The functions with their parameters (see [`Function`](super::Function)).
pub const TABLE: &[Row] = &[
    ("genCA", "si", |_, a| authority(string(a, 0), int(a, 1), new_key()?)),
    ("genCAWithKey", "sis", |_, a| authority(string(a, 0), int(a, 1), key(string(a, 2))?)),
    ("genSelfSignedCert", "saai", |_, a| self_signed(a, new_key()?)),
    ("genSelfSignedCertWithKey", "saais", |_, a| self_signed(a, key(string(a, 4))?)),
    ("genSignedCert", "saaia", |_, a| signed(a, new_key()?)),
    ("genSignedCertWithKey", "saaias", |_, a| signed(a, key(string(a, 5))?)),
    ("buildCustomCert", "ss", |_, a| custom_certificate(string(a, 0), string(a, 1))),
    ("genPrivateKey", "s", |_, a| match string(a, 0) {
        "" | "rsa" => text(rsa_key()?),
        "ecdsa" => text(ec_key()),
        "ed25519" => text(KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(message)?.serialize_pem()),
        "dsa" => Err("keys of type dsa are not supported: use rsa, ecdsa or ed25519".to_owned()),
        other => text(format!("Unknown type {other}")),
    }),
];

fn message(error: rcgen::Error) -> String {
    error.to_string()
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate().map_err(message)
}

fn key(pem: &str) -> Result<KeyPair> {
    KeyPair::from_pem(pem).map_err(message)
}

/// The size of RSA keys in bits; sprig makes larger ones, which takes many times longer.
const RSA_BITS: usize = 2048;

fn rsa_key() -> Result<String> {
    let key = rsa::RsaPrivateKey::new(&mut SystemRandom, RSA_BITS).map_err(|error| error.to_string())?;
    Ok(key.to_pkcs1_pem(LineEnding::LF).map_err(|error| error.to_string())?.to_string())
}

/// The system's random numbers, for the `rsa` crate.
struct SystemRandom;

impl TryRng for SystemRandom {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> std::result::Result<u32, Self::Error> {
        Ok(rand::random())
    }

    fn try_next_u64(&mut self) -> std::result::Result<u64, Self::Error> {
        Ok(rand::random())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> std::result::Result<(), Self::Error> {
        rand::fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for SystemRandom {}

/// Makes a P-256 key in the form of RFC 5915, as Go writes it.
fn ec_key() -> String {
    loop {
        // nearly every number is a valid key
        if let Ok(key) = p256::SecretKey::from_slice(&rand::random::<[u8; 32]>())
            && let Ok(pem) = key.to_sec1_pem(LineEnding::LF)
        {
            return pem.to_string();
        }
    }
}

/// Returns a certificate and a key that the chart contains, each in base64.
fn custom_certificate(certificate: &str, key: &str) -> Result {
    let certificate = super::encode::decode_base64_text(certificate).map_err(|_| "unable to decode base64 certificate")?;
    let key = super::encode::decode_base64_text(key).map_err(|_| "unable to decode base64 private key")?;
    common_name(&certificate).map_err(|_| "unable to decode certificate")?;
    x509_parser::pem::parse_x509_pem(key.as_bytes()).map_err(|_| "unable to decode key")?;
    Ok(pair(certificate, key))
}

fn pair(certificate: String, key: String) -> Value {
    Value::object(Struct {
        ty: "sprig.certificate",
        fields: vec![("Cert", Value::text(certificate)), ("Key", Value::text(key))],
        methods: Vec::new(),
        json: JsonNames::Fields,
    })
}

fn params(name: &str, days: i64) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = std::time::SystemTime::now();
    let length = std::time::Duration::from_secs(u64::try_from(days).unwrap_or(0).min(365_000) * 86_400);
    params.not_before = now.into();
    params.not_after = (now + length).into();
    params.key_usages = vec![KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn authority_params(name: &str, days: i64) -> Result<CertificateParams> {
    let mut params = params(name, days)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    Ok(params)
}

fn authority(name: &str, days: i64, key: KeyPair) -> Result {
    let certificate = authority_params(name, days)?.self_signed(&key).map_err(message)?;
    Ok(pair(certificate.pem(), key.serialize_pem()))
}

/// The parameters of `genSelfSignedCert` and `genSignedCert`: name, IP addresses, DNS names and days.
fn host(a: &[Value]) -> Result<CertificateParams> {
    let mut params = params(string(a, 0), int(a, 3))?;
    for address in super::strslice(&a[1]) {
        let address: IpAddr = address.parse().map_err(|_| format!("error parsing ip: {address}"))?;
        params.subject_alt_names.push(SanType::IpAddress(address));
    }
    for name in super::strslice(&a[2]) {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().map_err(message)?));
    }
    Ok(params)
}

fn self_signed(a: &[Value], key: KeyPair) -> Result {
    let certificate = host(a)?.self_signed(&key).map_err(message)?;
    Ok(pair(certificate.pem(), key.serialize_pem()))
}

fn signed(a: &[Value], own: KeyPair) -> Result {
    let Value::Object(authority) = &a[4] else {
        return Err(format!("wrong type for value; expected sprig.certificate; got {}", a[4].type_name()));
    };
    let part = |name: &str| match authority.member(name, &[]) {
        Some(Ok(Value::Text(text))) => Ok(text.to_string()),
        _ => Err(format!("wrong type for value; expected sprig.certificate; got {}", a[4].type_name())),
    };
    let issuer_key = key(&part("Key")?)?;
    let certificate = part("Cert")?;
    let subject = common_name(&certificate)?;
    let issuer = Issuer::new(authority_params(&subject, 0)?, issuer_key);
    let certificate = host(a)?.signed_by(&own, &issuer).map_err(message)?;
    Ok(pair(certificate.pem(), own.serialize_pem()))
}

/// The common name of a certificate authority, the issuer of what it signs.
fn common_name(pem: &str) -> Result<String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|error| error.to_string())?;
    let certificate = pem.parse_x509().map_err(|error| error.to_string())?;
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    Ok(name.unwrap_or_default().to_owned())
}
