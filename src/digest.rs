//! SHA-256 of bytes.

use openssl::sha::Sha256;

/// SHA-256. OpenSSL's own call for all at once looks the algorithm up each time.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(bytes);
    hash.finish()
}
