//! Explains in words why TLS with an endpoint failed, and what to do about it.

use std::{fmt, io};

use jiff::{SignedDuration, Timestamp};
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::ssl::Error;
use openssl::x509::{X509NameRef, X509Ref, X509StoreContextRef};

use crate::names::printable;

/// Most names of a certificate that a message lists.
const NAMES: usize = 3;

/// OpenSSL's codes for a refused certificate (x509_vfy.h), which are part of its stable interface.
mod verify {
    pub(super) const NO_ISSUER: i32 = 2;
    pub(super) const NOT_YET_VALID: i32 = 9;
    pub(super) const EXPIRED: i32 = 10;
    pub(super) const SELF_SIGNED: i32 = 18;
    pub(super) const SELF_SIGNED_IN_CHAIN: i32 = 19;
    pub(super) const NO_LOCAL_ISSUER: i32 = 20;
    pub(super) const NO_LEAF_SIGNATURE: i32 = 21;
    pub(super) const NOT_FOR_SERVERS: i32 = 26;
    pub(super) const WRONG_HOST: i32 = 62;
    pub(super) const WRONG_ADDRESS: i32 = 64;
    pub(super) const WEAK_KEY: i32 = 66;
    pub(super) const WEAK_CA_KEY: i32 = 67;
    pub(super) const WEAK_DIGEST: i32 = 68;
}

/// OpenSSL's codes for a failed handshake (sslerr.h); from 1000 on they are alerts of the other
/// side (RFC 8446, section 6).
mod reason {
    pub(super) const HTTP_REQUEST: i32 = 156;
    pub(super) const PACKET_TOO_LONG: i32 = 198;
    pub(super) const UNEXPECTED_MESSAGE: i32 = 244;
    pub(super) const UNSUPPORTED_PROTOCOL: i32 = 258;
    pub(super) const WRONG_VERSION: i32 = 267;
    pub(super) const UNEXPECTED_EOF: i32 = 294;
    pub(super) const WEAK_DH_KEY: i32 = 394;
    pub(super) const VERSION_TOO_LOW: i32 = 396;
    pub(super) const ALERT_HANDSHAKE_FAILURE: i32 = 1040;
    pub(super) const ALERT_BAD_CERTIFICATE: i32 = 1042;
    pub(super) const ALERT_UNKNOWN_CERTIFICATE: i32 = 1046;
    pub(super) const ALERT_UNKNOWN_CA: i32 = 1048;
    pub(super) const ALERT_ACCESS_DENIED: i32 = 1049;
    pub(super) const ALERT_PROTOCOL_VERSION: i32 = 1070;
    pub(super) const ALERT_UNRECOGNIZED_NAME: i32 = 1112;
    pub(super) const ALERT_CERTIFICATE_REQUIRED: i32 = 1116;
}

/// Why there is no TLS with an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TlsFault {
    /// A certificate of the chain has expired.
    Expired { whose: Whose, at: String },
    /// A certificate of the chain is not valid yet.
    NotYetValid { whose: Whose, from: String },
    /// The endpoint's certificate is for other names.
    WrongName { host: String, names: Vec<String> },
    /// The endpoint's certificate is self-signed and not trusted here.
    SelfSigned,
    /// The certificate's CA is not trusted here.
    UnknownCa { ca: String },
    /// The chain that the endpoint sends ends with a certificate of an unknown issuer.
    NoIssuer { of: Whose, issuer: String },
    /// The issuer is unknown, and the endpoint sends no intermediate certificate.
    NoIntermediate { issuer: String },
    /// The certificate is not for servers.
    NotForServers,
    /// A key or a signature is too weak.
    Weak { what: &'static str },
    /// Refused for another reason, in OpenSSL's words.
    Refused { why: String },
    /// The endpoint speaks another protocol.
    NoTls,
    /// The endpoint speaks only TLS versions that are too old.
    TooOld,
    /// The endpoint requires a client certificate.
    WantsCertificate,
    /// The endpoint refuses the client certificate.
    RefusesCertificate,
    /// The endpoint sent the general handshake alert.
    HandshakeFailure,
    /// The endpoint does not know the server name.
    UnknownName { host: String },
    /// The endpoint closed the connection.
    Closed,
    /// Any other fault, in OpenSSL's words.
    Other { why: String },
}

/// The certificate of a chain that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Its,
    Of(String),
}

impl TlsFault {
    /// The fault of a certificate that is being refused.
    pub(super) fn of_certificate(context: &X509StoreContextRef, host: &str) -> Self {
        let certificate = context.current_cert();
        let depth = context.error_depth();
        let issuer = || certificate.map_or_else(String::new, |one| name(one.issuer_name()));
        let whose = || match certificate {
            Some(one) if depth > 0 => Whose::Of(name(one.subject_name())),
            _ => Whose::Its,
        };
        let time =
            |of: fn(&X509Ref) -> &Asn1TimeRef| certificate.and_then(|one| date(of(one))).unwrap_or_default();
        match context.error().as_raw() {
            verify::EXPIRED => Self::Expired { whose: whose(), at: time(X509Ref::not_after) },
            verify::NOT_YET_VALID => Self::NotYetValid { whose: whose(), from: time(X509Ref::not_before) },
            verify::WRONG_HOST | verify::WRONG_ADDRESS => {
                Self::WrongName { host: host.to_owned(), names: certificate.map_or_else(Vec::new, names) }
            }
            verify::SELF_SIGNED => Self::SelfSigned,
            verify::NO_ISSUER | verify::NO_LOCAL_ISSUER | verify::NO_LEAF_SIGNATURE if depth == 0 => {
                Self::NoIntermediate { issuer: issuer() }
            }
            verify::NO_ISSUER | verify::NO_LOCAL_ISSUER | verify::NO_LEAF_SIGNATURE => {
                Self::NoIssuer { of: whose(), issuer: issuer() }
            }
            verify::SELF_SIGNED_IN_CHAIN => Self::UnknownCa { ca: issuer() },
            verify::NOT_FOR_SERVERS => Self::NotForServers,
            verify::WEAK_KEY => Self::Weak { what: "its key" },
            verify::WEAK_CA_KEY => Self::Weak { what: "the key of its CA" },
            verify::WEAK_DIGEST => Self::Weak { what: "a signature in its chain" },
            _ => Self::Refused { why: context.error().error_string().to_owned() },
        }
    }

    /// The fault behind a broken handshake, or an alert after it.
    pub(super) fn of_error(error: &Error, host: &str) -> Self {
        match error.ssl_error() {
            Some(stack) => Self::of_stack(stack, host),
            // Neither OpenSSL nor the system gave a reason.
            None => match error.io_error().map(io::Error::kind) {
                None | Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => Self::Closed,
                Some(kind) => Self::Other { why: kind.to_string() },
            },
        }
    }

    fn of_stack(stack: &ErrorStack, host: &str) -> Self {
        let Some(error) = stack.errors().first() else { return Self::Closed };
        match error.reason_code() {
            reason::WRONG_VERSION
            | reason::PACKET_TOO_LONG
            | reason::HTTP_REQUEST
            | reason::UNEXPECTED_MESSAGE => Self::NoTls,
            reason::UNSUPPORTED_PROTOCOL | reason::VERSION_TOO_LOW | reason::ALERT_PROTOCOL_VERSION => {
                Self::TooOld
            }
            reason::UNEXPECTED_EOF => Self::Closed,
            reason::WEAK_DH_KEY => Self::Weak { what: "its key exchange" },
            reason::ALERT_CERTIFICATE_REQUIRED => Self::WantsCertificate,
            reason::ALERT_BAD_CERTIFICATE..=reason::ALERT_UNKNOWN_CERTIFICATE
            | reason::ALERT_UNKNOWN_CA
            | reason::ALERT_ACCESS_DENIED => Self::RefusesCertificate,
            reason::ALERT_HANDSHAKE_FAILURE => Self::HandshakeFailure,
            reason::ALERT_UNRECOGNIZED_NAME => Self::UnknownName { host: host.to_owned() },
            // The text of the error names a file and a line of OpenSSL's source; the reason does
            // not.
            code => Self::Other {
                why: error.reason().map_or_else(|| format!("OpenSSL's reason {code}"), str::to_owned),
            },
        }
    }

    /// What to do about it. `ca_file` and `client`: whether the subscription sets these.
    pub(super) fn hint(&self, ca_file: bool, client: bool) -> String {
        let trust = |what: &str| match ca_file {
            true => format!("add {what} to the subscription's ca_file, which holds others"),
            false => format!("give {what} as the subscription's ca_file"),
        };
        match self {
            Self::Expired { whose: Whose::Its, .. } => {
                "the endpoint's certificate has to be renewed".to_owned()
            }
            Self::Expired { .. } => "the endpoint has to send the newer certificate of that CA".to_owned(),
            Self::NotYetValid { .. } => {
                "compare the clock of this machine, then the dates of the certificate with those who run the \
                 endpoint"
                    .to_owned()
            }
            Self::WrongName { .. } => {
                "correct the host in the subscription's url, or have the certificate issued for it".to_owned()
            }
            Self::SelfSigned => trust("that certificate"),
            Self::UnknownCa { ca } => trust(&format!("the certificate of {}", quoted(ca))),
            Self::NoIssuer { issuer, .. } => format!(
                "{}; or, if that is an intermediate one, have the endpoint send its whole chain",
                trust(&format!("the certificate of {}", quoted(issuer)))
            ),
            Self::NoIntermediate { issuer } => format!(
                "have the endpoint send its whole chain; or {}",
                trust(&format!("the certificate of {}", quoted(issuer)))
            ),
            Self::NotForServers => "the endpoint needs a certificate that is issued for servers".to_owned(),
            Self::Weak { .. } => "the endpoint needs a newer certificate or TLS set-up".to_owned(),
            Self::Refused { .. } => "look at the certificate with the people who run the endpoint".to_owned(),
            Self::NoTls => {
                "correct the port in the subscription's url; or begin it with http://, if it is meant to go \
                 in the clear"
                    .to_owned()
            }
            Self::TooOld => "the endpoint has to speak TLS 1.2 or later".to_owned(),
            Self::HandshakeFailure if !client => {
                "see in the endpoint's log what it refuses; if it asks for a certificate, give the \
                 subscription a client_cert_file and a client_key_file"
                    .to_owned()
            }
            Self::WantsCertificate | Self::RefusesCertificate if !client => {
                "give the subscription a client_cert_file and a client_key_file".to_owned()
            }
            Self::WantsCertificate | Self::RefusesCertificate => {
                "have the endpoint trust the certificate in client_cert_file, or give another".to_owned()
            }
            Self::HandshakeFailure => "see in the endpoint's log what it refuses".to_owned(),
            Self::UnknownName { .. } => "correct the host in the subscription's url".to_owned(),
            Self::Closed | Self::Other { .. } => {
                "see that the port of the subscription's url is one for https, and what the endpoint's log \
                 says"
                    .to_owned()
            }
        }
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { whose, at } => write!(f, "{whose} has expired on {at}"),
            Self::NotYetValid { whose, from } => write!(f, "{whose} is not valid before {from}"),
            Self::WrongName { host, names } if names.is_empty() => {
                write!(f, "its certificate is not for {host}")
            }
            Self::WrongName { host, names } => {
                write!(f, "its certificate is not for {host} but for {}", names.join(", "))
            }
            Self::SelfSigned => f.write_str("its certificate is signed by itself, and not trusted here"),
            Self::UnknownCa { ca } => {
                write!(f, "its certificate is issued by a CA that is not trusted here, {}", quoted(ca))
            }
            Self::NoIntermediate { issuer } => write!(
                f,
                "its certificate is issued by {}, which is not trusted here, and it sends no intermediate \
                 certificate",
                quoted(issuer)
            ),
            Self::NoIssuer { of, issuer } => {
                write!(
                    f,
                    "{of} is issued by {}, which is not trusted here and whose certificate it does not send",
                    quoted(issuer)
                )
            }
            Self::NotForServers => f.write_str("its certificate is not meant for servers"),
            Self::Weak { what } => write!(f, "{what} is too weak to be safe"),
            Self::Refused { why } => write!(f, "its certificate is refused: {why}"),
            Self::NoTls => f.write_str("what answers there does not speak TLS"),
            Self::TooOld => f.write_str("no TLS protocol version in common: it speaks none from 1.2 on"),
            Self::WantsCertificate => f.write_str("it asks for a client certificate"),
            Self::RefusesCertificate => f.write_str("it refuses the client certificate, or the want of one"),
            Self::HandshakeFailure => {
                f.write_str("it ended the handshake: nothing in common, or it asks for a client certificate")
            }
            Self::UnknownName { host } => write!(f, "it does not know the name {host}"),
            Self::Closed => f.write_str("it closed the connection during the TLS handshake"),
            Self::Other { why } => write!(f, "TLS failed: {why}"),
        }
    }
}

impl std::error::Error for TlsFault {}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Its => f.write_str("its certificate"),
            Self::Of(ca) => write!(f, "in its chain, the certificate of {}", quoted(ca)),
        }
    }
}

fn quoted(name: &str) -> String {
    if name.is_empty() { "its issuer".to_owned() } else { format!("\"{name}\"") }
}

/// The name in a certificate: its common name, else its organisation.
fn name(name: &X509NameRef) -> String {
    let entry =
        [Nid::COMMONNAME, Nid::ORGANIZATIONNAME].into_iter().find_map(|nid| name.entries_by_nid(nid).next());
    let text = entry.and_then(|entry| entry.data().to_string().ok());
    text.map_or_else(String::new, |text| printable(&text, 80))
}

/// The first names and addresses that a certificate is for.
fn names(certificate: &X509Ref) -> Vec<String> {
    let Some(found) = certificate.subject_alt_names() else { return Vec::new() };
    let name = |name: &openssl::x509::GeneralNameRef| match (name.dnsname(), name.ipaddress()) {
        (Some(host), _) => Some(printable(host, 80)),
        (None, Some(ip)) => match (<[u8; 4]>::try_from(ip), <[u8; 16]>::try_from(ip)) {
            (Ok(ip), _) => Some(std::net::Ipv4Addr::from(ip).to_string()),
            (_, Ok(ip)) => Some(std::net::Ipv6Addr::from(ip).to_string()),
            _ => None,
        },
        (None, None) => None,
    };
    let mut names: Vec<String> = found.iter().filter_map(name).collect();
    if names.len() > NAMES {
        let more = names.len() - NAMES;
        names.truncate(NAMES);
        names.push(format!("{more} more"));
    }
    names
}

/// The day, in the form of RFC 3339.
fn date(time: &Asn1TimeRef) -> Option<String> {
    let since = Asn1Time::from_unix(0).ok()?.diff(time).ok()?;
    let seconds = i64::from(since.days) * 86_400 + i64::from(since.secs);
    let at = Timestamp::UNIX_EPOCH.checked_add(SignedDuration::from_secs(seconds)).ok()?;
    Some(at.strftime("%Y-%m-%d").to_string())
}
