//! SHA-256 of bytes, and its text.

use openssl::sha::Sha256;

/// SHA-256. OpenSSL's own call for all at once looks the algorithm up each time.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(bytes);
    hash.finish()
}

/// A hash in hex. Faster than [`hex::encode`], which writes character after character.
pub(crate) fn in_hex(hash: &[u8; 32]) -> String {
    let mut text = [0; 64];
    match hex::encode_to_slice(hash, &mut text) {
        Ok(()) => String::from_utf8_lossy(&text).into_owned(),
        // The lengths fit, so this does not happen.
        Err(_) => hex::encode(hash),
    }
}
