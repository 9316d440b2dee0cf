//! Certificates for tests: by themselves or by another, good or not any more.

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

/// A certificate for a name, signed by itself, good today.
pub(crate) fn certificate(name: &str) -> (X509, PKey<Private>) {
    certificate_until(name, &Asn1Time::days_from_now(1).unwrap())
}

/// One that is good until then.
pub(crate) fn certificate_until(name: &str, end: &Asn1Time) -> (X509, PKey<Private>) {
    made(name, "spec-notify tests", None, [&Asn1Time::from_unix(0).unwrap(), end])
}

/// A certificate for a name, issued by another that is a CA's.
pub(crate) fn issued(name: &str, by: &(X509, PKey<Private>)) -> (X509, PKey<Private>) {
    made(name, name, Some(by), [&Asn1Time::from_unix(0).unwrap(), &Asn1Time::days_from_now(1).unwrap()])
}

/// A certificate that is good between two times, for a name and as a CA of another name.
pub(crate) fn made(
    name: &str,
    subject_name: &str,
    by: Option<&(X509, PKey<Private>)>,
    [start, end]: [&Asn1Time; 2],
) -> (X509, PKey<Private>) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", subject_name).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(by.map_or(&subject, |(issuer, _)| issuer.subject_name())).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(start).unwrap();
    builder.set_not_after(end).unwrap();
    builder.append_extension(BasicConstraints::new().ca().build().unwrap()).unwrap();
    let mut names = SubjectAlternativeName::new();
    let names = if name.parse::<std::net::IpAddr>().is_ok() { names.ip(name) } else { names.dns(name) };
    let names = names.build(&builder.x509v3_context(None, None)).unwrap();
    builder.append_extension(names).unwrap();
    builder.sign(by.map_or(&key, |(_, key)| key), MessageDigest::sha256()).unwrap();
    (builder.build(), key)
}
