use base64::{Engine as _, engine::general_purpose::STANDARD};
use openssl::{hash::MessageDigest, memcmp, pkey::PKey, sign::Signer};

/// Whether both signatures are right. Compare `timestamp` with the clock besides.
pub fn verify(secret: &str, body: &[u8], headers: [&str; 4]) -> Result<bool, Box<dyn std::error::Error>> {
    let [speckit_signature, id, timestamp, webhook_signature] = headers;
    let decoded = match secret.strip_prefix("whsec_") {
        Some(encoded) => STANDARD.decode(encoded)?,
        None => secret.as_bytes().to_vec(),
    };
    let hmac = |key: &[u8], data: &[u8]| {
        Signer::new(MessageDigest::sha256(), &*PKey::hmac(key)?)?.sign_oneshot_to_vec(data)
    };
    let equal = |a: &str, b: &str| a.len() == b.len() && memcmp::eq(a.as_bytes(), b.as_bytes());

    let speckit = format!("sha256={}", hex::encode(hmac(secret.as_bytes(), body)?));
    let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
    let standard = format!("v1,{}", STANDARD.encode(hmac(&decoded, &signed)?));
    Ok(equal(&speckit, speckit_signature)
        && webhook_signature.split(' ').any(|token| equal(&standard, token)))
}
