//! Certificates: signed by themselves or by another, good or not any more.

use std::net::IpAddr;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

/// A certificate and its key.
pub type Pair = (X509, PKey<Private>);

/// A certificate for a name, signed by itself, good today.
///
/// # Errors
/// OpenSSL cannot make it.
pub fn self_signed(name: &str) -> Result<Pair, ErrorStack> {
    made(name, "spec-notify tests", None, [&*Asn1Time::from_unix(0)?, &*Asn1Time::days_from_now(1)?])
}

/// The same, in PEM form.
pub(super) fn in_pem(name: &str) -> Result<(String, String), ErrorStack> {
    let (certificate, key) = self_signed(name)?;
    let text = |pem: Vec<u8>| String::from_utf8_lossy(&pem).into_owned();
    Ok((text(certificate.to_pem()?), text(key.private_key_to_pem_pkcs8()?)))
}

/// A certificate that is good between two times, for a name and as a CA of another name; signed by
/// itself where no issuer is given.
///
/// # Errors
/// OpenSSL cannot make it.
pub fn made(
    name: &str,
    subject_name: &str,
    by: Option<&Pair>,
    [start, end]: [&Asn1TimeRef; 2],
) -> Result<Pair, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let key = PKey::from_ec_key(EcKey::generate(&group)?)?;
    let mut subject = X509NameBuilder::new()?;
    subject.append_entry_by_text("CN", subject_name)?;
    let subject = subject.build();
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*BigNum::from_u32(1)?.to_asn1_integer()?)?;
    builder.set_subject_name(&subject)?;
    builder.set_issuer_name(by.map_or(&subject, |(issuer, _)| issuer.subject_name()))?;
    builder.set_pubkey(&key)?;
    builder.set_not_before(start)?;
    builder.set_not_after(end)?;
    builder.append_extension(BasicConstraints::new().ca().build()?)?;
    let mut names = SubjectAlternativeName::new();
    let names = if name.parse::<IpAddr>().is_ok() { names.ip(name) } else { names.dns(name) };
    let names = names.build(&builder.x509v3_context(None, None))?;
    builder.append_extension(names)?;
    builder.sign(by.map_or(&key, |(_, key)| key), MessageDigest::sha256())?;
    Ok((builder.build(), key))
}
