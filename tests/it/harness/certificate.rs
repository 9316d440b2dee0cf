//! Certificates for tests: by themselves or by another, good or not any more.

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use spec_notify::internals::certificate::{Pair, made as try_made, self_signed};
use spec_notify::testing::Tls;

/// A certificate for a name, signed by itself, good today.
pub(crate) fn certificate(name: &str) -> Pair {
    self_signed(name).unwrap()
}

/// One that is good until then.
pub(crate) fn certificate_until(name: &str, end: &Asn1Time) -> Pair {
    made(name, "spec-notify tests", None, [&Asn1Time::from_unix(0).unwrap(), end])
}

/// A certificate for a name, issued by another that is a CA's.
pub(crate) fn issued(name: &str, by: &Pair) -> Pair {
    made(name, name, Some(by), [&Asn1Time::from_unix(0).unwrap(), &Asn1Time::days_from_now(1).unwrap()])
}

/// A certificate that is good between two times, for a name and as a CA of another name.
pub(crate) fn made(name: &str, subject_name: &str, by: Option<&Pair>, times: [&Asn1TimeRef; 2]) -> Pair {
    try_made(name, subject_name, by, times).unwrap()
}

/// In PEM form.
pub(crate) fn pem(certificate: &X509) -> String {
    String::from_utf8(certificate.to_pem().unwrap()).unwrap()
}

/// In PEM form.
pub(crate) fn key_pem(key: &PKey<Private>) -> String {
    String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap()
}

/// An endpoint's TLS with a certificate, and further ones that it shows.
pub(crate) fn tls((certificate, key): &Pair, chain: &[&X509]) -> Tls {
    let further: String = chain.iter().map(|further| pem(further)).collect();
    Tls::from_pem(&(pem(certificate) + &further), &key_pem(key))
}
