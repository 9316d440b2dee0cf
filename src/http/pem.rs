//! Keys and certificates from PEM text. OpenSSL would ask on the terminal for the passphrase of an
//! encrypted block. So no block marked as encrypted is given to it, and if one turns out to be
//! encrypted the passphrase is refused.

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

/// Why a text holds nothing usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PemError {
    /// It holds nothing of the kind, or nothing that OpenSSL can use.
    Malformed,
    /// It needs a passphrase.
    Encrypted,
}

/// The word in every encrypted block, in its first line (PKCS #8) or its `Proc-Type` header (RFC
/// 1421): OpenSSL looks for it before it asks for a passphrase.
const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// All certificates in a text, at least one.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<X509>, PemError> {
    // A key may be in the same file: skip it.
    let blocks: Vec<&[u8]> = blocks(pem).filter(|block| first_line(block).ends_with("CERTIFICATE")).collect();
    if blocks.iter().any(|block| is_encrypted(block)) {
        return Err(PemError::Encrypted);
    }
    match X509::stack_from_pem(&blocks.concat()) {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(PemError::Malformed),
    }
}

/// The first private key in a text that needs no passphrase.
pub(super) fn private_key(pem: &[u8]) -> Result<PKey<Private>, PemError> {
    let mut error = PemError::Malformed;
    for block in blocks(pem).filter(|block| first_line(block).ends_with("PRIVATE KEY")) {
        if is_encrypted(block) {
            error = PemError::Encrypted;
            continue;
        }
        // OpenSSL asks if a block is encrypted although its first line does not say so.
        let mut was_asked = false;
        let refuse = |_: &mut [u8]| {
            was_asked = true;
            Err(ErrorStack::get())
        };
        match PKey::private_key_from_pem_callback(block, refuse) {
            Ok(key) => return Ok(key),
            Err(_) if was_asked => error = PemError::Encrypted,
            Err(_) => {}
        }
    }
    Err(error)
}

/// The parts of a text that begin with a `-----BEGIN` line, each up to the next such line. Text
/// before the first one is a comment.
fn blocks(pem: &[u8]) -> impl Iterator<Item = &[u8]> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let is_begin = |at: &usize| pem[*at..].starts_with(BEGIN) && (*at == 0 || pem[*at - 1] == b'\n');
    let begins: Vec<usize> = (0..pem.len()).filter(is_begin).collect();
    let ends: Vec<usize> = begins.iter().skip(1).copied().chain([pem.len()]).collect();
    begins.into_iter().zip(ends).map(|(begin, end)| &pem[begin..end])
}

/// The label line of a block, without the dashes at its end.
fn first_line(block: &[u8]) -> &str {
    let line = block.split(|byte| *byte == b'\n').next().unwrap_or_default();
    std::str::from_utf8(line).unwrap_or_default().trim_end().trim_end_matches('-')
}

fn is_encrypted(block: &[u8]) -> bool {
    block.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED)
}

#[cfg(test)]
mod tests {
    use openssl::asn1::Asn1Time;
    use openssl::hash::MessageDigest;
    use openssl::rsa::Rsa;
    use openssl::symm::Cipher;

    use super::*;

    fn joined(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    /// A key: plain, encrypted in both forms, and encrypted with the label of a plain one.
    fn forms() -> [Vec<u8>; 4] {
        let rsa = Rsa::generate(2048).unwrap();
        let key = PKey::from_rsa(rsa.clone()).unwrap();
        let modern = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"passphrase").unwrap();
        let legacy = rsa.private_key_to_pem_passphrase(Cipher::aes_128_cbc(), b"passphrase").unwrap();
        let mislabelled = String::from_utf8(modern.clone()).unwrap().replace("ENCRYPTED ", "").into_bytes();
        [key.private_key_to_pem_pkcs8().unwrap(), modern, legacy, mislabelled]
    }

    /// A certificate without a name.
    fn certificate() -> Vec<u8> {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut builder = X509::builder().unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.set_not_before(&Asn1Time::from_unix(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        builder.build().to_pem().unwrap()
    }

    // If one of them were given to OpenSSL as it is, the test would ask for a passphrase on a
    // terminal.
    #[test]
    fn an_encrypted_key_is_said_to_be_one() {
        let [plain, modern, legacy, mislabelled] = forms();
        for encrypted in [&modern, &legacy, &mislabelled] {
            let text = String::from_utf8_lossy(encrypted);
            assert_eq!(private_key(encrypted).err(), Some(PemError::Encrypted), "{text}");
            let windows = text.replace('\n', "\r\n");
            assert_eq!(private_key(windows.as_bytes()).err(), Some(PemError::Encrypted), "{windows}");
            assert!(private_key(&joined(&[b"a comment\n", encrypted, &plain])).is_ok(), "{text}");
            // A truncated key is encrypted or malformed; it never asks for a passphrase.
            for end in (0..encrypted.len()).step_by(7) {
                assert!(private_key(&encrypted[..end]).is_err());
            }
        }
        assert!(private_key(&plain).is_ok());
        for none in [&b""[..], b"nothing", b"-----BEGIN PRIVATE KEY-----\n", b"-----BEGIN \xff"] {
            assert_eq!(private_key(none).err(), Some(PemError::Malformed));
        }
    }

    #[test]
    fn certificates_stand_beside_keys_and_are_never_encrypted() {
        let [_, modern, legacy, _] = forms();
        let certificate = certificate();
        assert_eq!(certificates(&joined(&[&modern, &certificate, &legacy, &certificate])).unwrap().len(), 2);
        let text = String::from_utf8(certificate).unwrap();
        let headers =
            "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\n";
        let encrypted = text.replacen("-----\n", headers, 1);
        assert_eq!(certificates(encrypted.as_bytes()).err(), Some(PemError::Encrypted));
        for none in [&b""[..], b"nothing", &modern, &text.as_bytes()[..200]] {
            assert_eq!(certificates(none).err(), Some(PemError::Malformed));
        }
    }
}
