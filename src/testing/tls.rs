//! How an endpoint speaks TLS.

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod, SslOptions, SslVerifyMode, SslVersion};
use openssl::x509::X509;

use super::{certificate, needed};

/// The certificate of an endpoint, and what it asks of who connects.
///
/// ```
/// use spec_notify::testing::{Endpoint, Sandbox, Tls};
///
/// let tls = Tls::self_signed("127.0.0.1");
/// let endpoint = Endpoint::over_tls(&tls, [200]);
/// let sandbox = Sandbox::new().subscribe_with("tls", &endpoint.url(), "ca_file = \"ca.pem\"");
/// sandbox.write("ca.pem", tls.certificate());
/// ```
#[derive(Clone, Debug)]
pub struct Tls {
    certificates: String,
    key: String,
    client_ca: Option<String>,
    version: Option<TlsVersion>,
}

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.1, which nobody should speak any more.
    V1_1,
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl Tls {
    /// With a new certificate for a host name or an address, signed by itself and good for a day.
    ///
    /// # Panics
    /// OpenSSL cannot make one.
    #[track_caller]
    pub fn self_signed(name: &str) -> Self {
        let (certificates, key) = needed("a certificate", certificate::in_pem(name));
        Self::from_pem(&certificates, &key)
    }

    /// With this certificate, followed by those that it is issued by, and its key, both in PEM
    /// form.
    pub fn from_pem(certificates: &str, key: &str) -> Self {
        Self { certificates: certificates.to_owned(), key: key.to_owned(), client_ca: None, version: None }
    }

    /// Asks for a client certificate that is, or was issued by, this one in PEM form.
    #[must_use]
    pub fn asking_for(self, client_ca: &str) -> Self {
        Self { client_ca: Some(client_ca.to_owned()), ..self }
    }

    /// Speaks this version alone.
    #[must_use]
    pub fn only(self, version: TlsVersion) -> Self {
        Self { version: Some(version), ..self }
    }

    /// Its certificates in PEM form: what a client has to trust.
    pub fn certificate(&self) -> &str {
        &self.certificates
    }

    pub(super) fn acceptor(&self) -> Result<SslAcceptor, ErrorStack> {
        let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls())?;
        if let Some(client_ca) = &self.client_ca {
            acceptor.cert_store_mut().add_cert(X509::from_pem(client_ca.as_bytes())?)?;
            acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        }
        if let Some(version) = self.version {
            // The older ones are refused otherwise.
            acceptor.set_security_level(0);
            acceptor.set_cipher_list("ALL:@SECLEVEL=0")?;
            acceptor.clear_options(SslOptions::NO_TLSV1_1 | SslOptions::NO_TLSV1_3);
            let version = match version {
                TlsVersion::V1_1 => SslVersion::TLS1_1,
                TlsVersion::V1_2 => SslVersion::TLS1_2,
                TlsVersion::V1_3 => SslVersion::TLS1_3,
            };
            acceptor.set_min_proto_version(Some(version))?;
            acceptor.set_max_proto_version(Some(version))?;
        }
        acceptor.set_private_key(&*PKey::private_key_from_pem(self.key.as_bytes())?)?;
        let mut certificates = X509::stack_from_pem(self.certificates.as_bytes())?.into_iter();
        if let Some(own) = certificates.next() {
            acceptor.set_certificate(&own)?;
        }
        for further in certificates {
            acceptor.add_extra_chain_cert(further)?;
        }
        Ok(acceptor.build())
    }
}
