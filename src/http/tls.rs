//! TLS for one trust setting: verified certificates, extra roots, a client certificate. Read once
//! and shared.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use actix_rt::net::TcpStream;
use actix_tls::connect::openssl::reexports::AsyncSslStream;
use openssl::error::ErrorStack;
use openssl::sha::Sha256;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilderRef;
use openssl::x509::verify::X509VerifyFlags;
use zeroize::Zeroizing;

use super::pem::{self, PemError};
use super::tls_fault::TlsFault;
use crate::files::open::{self, Links};

/// Largest file of certificates or keys that is read, in bytes.
const MAX_PEM_BYTES: u64 = 16 * 1024 * 1024;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// OpenSSL or the system's trust roots cannot be used.
    #[error("cannot set up TLS: {0}")]
    OpenSsl(#[from] ErrorStack),
    /// A file named in the config cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// A file named in the config has the wrong content.
    #[error("{} holds no {what} in PEM form that OpenSSL can use", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A file named in the config is encrypted; nothing asks for a passphrase.
    #[error("{} is encrypted with a passphrase, and nothing here asks for one", .0.display())]
    Encrypted(PathBuf),
    /// The key does not belong to the certificate.
    #[error("{} is not the key of the certificate", .0.display())]
    Mismatch(PathBuf),
}

impl TlsError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::OpenSsl(_) => "see what OpenSSL says",
            Self::Read { .. } => "correct the path, or let the user who runs this read the file",
            Self::Malformed { .. } => "give a file in PEM form",
            Self::Encrypted(_) => {
                "write it without its passphrase, `openssl pkey -in KEY -out PLAIN`, let nobody else read \
                 it, `chmod 600 PLAIN`, and name that file"
            }
            Self::Mismatch(_) => "give the key that the certificate was made with",
        }
    }
}

/// The files of a subscription's trust settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// `ca_file`: extra trust roots.
    pub ca: Option<PathBuf>,
    /// `client_cert_file` and `client_key_file`.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// The content of the files.
struct Material {
    ca: Option<(PathBuf, Vec<u8>)>,
    client: Option<[(PathBuf, Zeroizing<Vec<u8>>); 2]>,
}

/// Identifies a trust setting by the content of its files.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Digest([u8; 32]);

/// A TLS set-up, ready to connect. Cheap to clone, usable on any thread.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: SslConnector,
    digest: Digest,
    has_ca: bool,
    has_client: bool,
}

/// Every trust setting in use, each set up once.
#[derive(Default)]
pub(crate) struct TlsSettings(HashMap<Digest, Tls>);

impl TlsSettings {
    /// The set-up for these files with their current content.
    ///
    /// # Errors
    /// A file cannot be read or has the wrong content, or OpenSSL cannot be used.
    pub(crate) fn of(&mut self, files: &TlsFiles) -> Result<Tls, TlsError> {
        let material = Material::read(files)?;
        let digest = material.digest();
        if let Some(tls) = self.0.get(&digest) {
            return Ok(tls.clone());
        }
        let tls = Tls::new(&material, digest)?;
        self.0.insert(digest, tls.clone());
        Ok(tls)
    }
}

impl TlsFiles {
    /// Checks that all files have the right content.
    ///
    /// # Errors
    /// As [`TlsSettings::of`].
    pub(crate) fn check(&self) -> Result<(), TlsError> {
        if *self == Self::default() {
            return Ok(());
        }
        let material = Material::read(self)?;
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        material.install(&mut builder)
    }
}

impl Material {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            open::whole(path, Links::Followed, MAX_PEM_BYTES)
                .map_err(|error| TlsError::Read { path: path.to_owned(), error })
        };
        let ca = files.ca.as_ref().map(|path| Ok::<_, TlsError>((path.clone(), read(path)?))).transpose()?;
        let client = files.client.as_ref().map(|(certificate, key)| {
            let both = [
                (certificate.clone(), Zeroizing::new(read(certificate)?)),
                (key.clone(), Zeroizing::new(read(key)?)),
            ];
            Ok::<_, TlsError>(both)
        });
        Ok(Self { ca, client: client.transpose()? })
    }

    fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        let ca = self.ca.iter().map(|(_, content)| content.as_slice());
        let client = self.client.iter().flatten().map(|(_, content)| content.as_slice());
        for (part, content) in (0u8..).zip(ca).chain((1u8..).zip(client)) {
            hash.update(&[part]);
            hash.update(&content.len().to_be_bytes());
            hash.update(content);
        }
        Digest(hash.finish())
    }

    fn install(&self, builder: &mut openssl::ssl::SslConnectorBuilder) -> Result<(), TlsError> {
        if let Some((path, pem)) = &self.ca {
            let roots = pem::certificates(pem).map_err(|error| unusable(error, path, "certificate"))?;
            add_roots(builder.cert_store_mut(), roots)?;
        }
        if let Some([(certificate_path, certificate), (key_path, key)]) = &self.client {
            let mut chain = pem::certificates(certificate)
                .map_err(|error| unusable(error, certificate_path, "certificate"))?
                .into_iter();
            let own =
                chain.next().ok_or_else(|| unusable(PemError::Malformed, certificate_path, "certificate"))?;
            let key = pem::private_key(key).map_err(|error| unusable(error, key_path, "key"))?;
            builder.set_certificate(&own)?;
            for further in chain {
                builder.add_extra_chain_cert(further)?;
            }
            builder.set_private_key(&key).map_err(|_| TlsError::Mismatch(key_path.clone()))?;
            builder.check_private_key().map_err(|_| TlsError::Mismatch(key_path.clone()))?;
        }
        Ok(())
    }
}

fn unusable(error: PemError, path: &Path, what: &'static str) -> TlsError {
    match error {
        PemError::Malformed => TlsError::Malformed { path: path.to_owned(), what },
        PemError::Encrypted => TlsError::Encrypted(path.to_owned()),
    }
}

fn add_roots(store: &mut X509StoreBuilderRef, roots: Vec<X509>) -> Result<(), ErrorStack> {
    roots.into_iter().try_for_each(|root| store.add_cert(root))
}

impl Tls {
    /// TLS 1.2 or later, HTTP/1.1, certificates verified against the system's trust roots and those
    /// of the files.
    fn new(material: &Material, digest: Digest) -> Result<Self, TlsError> {
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        builder.set_alpn_protos(b"\x08http/1.1")?;
        // A vendored OpenSSL does not know where this system keeps its roots.
        let roots = openssl_probe::probe();
        if let Some(file) = &roots.cert_file {
            builder.set_ca_file(file)?;
        }
        for dir in &roots.cert_dir {
            builder.load_verify_locations(None, Some(dir))?;
        }
        material.install(&mut builder)?;
        // Any trusted certificate is an anchor, also an intermediate CA's or the endpoint's own, as
        // in curl.
        builder.verify_param_mut().set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
        let (has_ca, has_client) = (material.ca.is_some(), material.client.is_some());
        Ok(Self { connector: builder.build(), digest, has_ca, has_client })
    }

    /// The set-up itself, for another client than ours.
    #[cfg(feature = "fleet")]
    pub(crate) fn connector(&self) -> SslConnector {
        self.connector.clone()
    }

    /// Performs the TLS handshake with `host` over a connection to it.
    pub(super) async fn secure(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> io::Result<AsyncSslStream<TcpStream>> {
        let host = host.trim_matches(['[', ']']);
        // A final dot belongs to DNS; certificates and server names have none (RFC 6066, section
        // 3).
        let host = host.strip_suffix('.').unwrap_or(host);
        let mut configuration = self.connector.configure()?;
        // The verification's error is noted here, because the handshake's own error does not carry
        // it.
        let refused: Arc<OnceLock<TlsFault>> = Arc::default();
        let (noted, name) = (refused.clone(), host.to_owned());
        configuration.set_verify_callback(SslVerifyMode::PEER, move |is_good, context| {
            if !is_good {
                noted.get_or_init(|| TlsFault::of_certificate(context, &name));
            }
            is_good
        });
        let mut stream = AsyncSslStream::new(configuration.into_ssl(host)?, stream)?;
        let agreed = Pin::new(&mut stream).connect().await;
        agreed.map_err(|error| {
            let fault = refused.get().cloned().unwrap_or_else(|| TlsFault::of_error(&error, host));
            io::Error::other(fault)
        })?;
        Ok(stream)
    }

    /// What to do about a fault.
    pub(super) fn hint(&self, fault: &TlsFault) -> String {
        fault.hint(self.has_ca, self.has_client)
    }
}

/// Equal if both trust the same roots and present the same certificate.
impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}
