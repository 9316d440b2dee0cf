//! TLS: trusted certificates are accepted, others are not, and nothing older than 1.2 is spoken.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslAcceptor, SslMethod, SslVerifyMode, SslVersion};
use openssl::symm::Cipher;
use openssl::x509::X509;
use serde_json::Value;

use crate::harness::certificate::certificate;
use crate::harness::{Ran, Sandbox, Terminal, wait_for_end};

/// An HTTPS endpoint that answers 200 to everyone who agrees on TLS with it.
pub(crate) fn serve_tls(certificate: &X509, key: &PKey<Private>, versions: Option<SslVersion>) -> u16 {
    serve(certificate, key, versions, None)
}

/// The same, to clients that show a certificate where one is asked for.
pub(crate) fn serve(
    certificate: &X509,
    key: &PKey<Private>,
    versions: Option<SslVersion>,
    client: Option<X509>,
) -> u16 {
    serve_chain(certificate, &[], key, versions, client)
}

/// The same, with further certificates shown.
pub(crate) fn serve_chain(
    certificate: &X509,
    chain: &[X509],
    key: &PKey<Private>,
    versions: Option<SslVersion>,
    client: Option<X509>,
) -> u16 {
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls()).unwrap();
    if let Some(client) = client {
        acceptor.cert_store_mut().add_cert(client).unwrap();
        acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    }
    if versions.is_some() {
        acceptor.set_security_level(0);
        acceptor.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
        acceptor.clear_options(openssl::ssl::SslOptions::NO_TLSV1 | openssl::ssl::SslOptions::NO_TLSV1_1);
        acceptor.set_min_proto_version(versions).unwrap();
        acceptor.set_max_proto_version(versions).unwrap();
    }
    acceptor.set_private_key(key).unwrap();
    acceptor.set_certificate(certificate).unwrap();
    chain.iter().for_each(|further| acceptor.add_extra_chain_cert(further.clone()).unwrap());
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(mut stream) = acceptor.accept(stream) else { continue };
            let mut seen = Vec::new();
            let mut buffer = [0; 4096];
            while !seen.windows(4).any(|window| window == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => seen.extend_from_slice(&buffer[..read]),
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.shutdown();
        }
    });
    port
}

fn try_out(name: &str, trusted: bool, versions: Option<SslVersion>) -> (i32, Value) {
    let (certificate, key) = certificate(name);
    let port = serve_tls(&certificate, &key, versions);
    let sandbox = Sandbox::new(&[("tls", &format!("https://127.0.0.1:{port}/x"), "")]);
    let roots = sandbox.write("roots.pem", &String::from_utf8(certificate.to_pem().unwrap()).unwrap());
    let mut command = sandbox.command(&["--json", "test", "SPEC-1", "--subscription", "tls"]);
    if trusted {
        command.env("SSL_CERT_FILE", roots).env("SSL_CERT_DIR", sandbox.path());
    }
    let ran = Ran::from(command.output().unwrap());
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    (ran.code, report[0].clone())
}

#[test]
fn a_ca_of_ones_own_and_a_client_certificate_are_taken_from_files() {
    let (certificate, key) = certificate("127.0.0.1");
    let (client, client_key) = crate::harness::certificate::certificate("client.example");
    let port = serve(&certificate, &key, None, Some(client.clone()));
    let url = format!("https://127.0.0.1:{port}/x");
    let files = "ca_file = \"ca.pem\"\nclient_cert_file = \"client.pem\"\nclient_key_file = \"client.key\"";
    let sandbox = Sandbox::new(&[("both", &url, files), ("no-client", &url, "ca_file = \"ca.pem\"")]);
    let text = |pem: Vec<u8>| String::from_utf8(pem).unwrap();
    sandbox.write("ca.pem", &text(certificate.to_pem().unwrap()));
    sandbox.write("client.pem", &text(client.to_pem().unwrap()));
    sandbox.write("client.key", &text(client_key.private_key_to_pem_pkcs8().unwrap()));
    let test = |id: &str| {
        let ran = sandbox.run(&["--json", "test", "SPEC-1", "--subscription", id]);
        serde_json::from_str::<Value>(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"))[0].clone()
    };
    assert_eq!(test("both")["status"], 200);
    let error = test("no-client")["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("tls: ") && error.contains("asks for a client certificate"), "{error}");
    assert!(test("no-client")["hint"].as_str().unwrap().contains("client_cert_file"));
    for (file, content, words) in [
        ("client.key", text(key.private_key_to_pem_pkcs8().unwrap()), "is not the key of the certificate"),
        ("ca.pem", "nonsense".to_owned(), "holds no certificate in PEM form"),
    ] {
        sandbox.write(file, &content);
        let ran = sandbox.run(&["check"]);
        assert!(ran.code == 2 && ran.stderr.contains(words), "{ran:?}");
    }
}

#[test]
fn nothing_asks_the_terminal_for_the_passphrase_of_a_key() {
    let (certificate, key) = certificate("client.example");
    let files = "client_cert_file = \"client.pem\"\nclient_key_file = \"client.key\"";
    let sandbox = Sandbox::new(&[("one", "https://127.0.0.1:9/x", files)]);
    let text = |pem: Vec<u8>| String::from_utf8(pem).unwrap();
    sandbox.write("client.pem", &text(certificate.to_pem().unwrap()));
    let cipher = Cipher::aes_256_cbc();
    let modern = text(key.private_key_to_pem_pkcs8_passphrase(cipher, b"passphrase").unwrap());
    let legacy = text(key.ec_key().unwrap().private_key_to_pem_passphrase(cipher, b"passphrase").unwrap());
    let mislabelled = modern.replace("ENCRYPTED ", "");
    let words = "client.key is encrypted with a passphrase";
    for encrypted in [&modern, &legacy, &mislabelled] {
        sandbox.write("client.key", encrypted);
        for command in ["check", "serve", "drain", "replay --all", "test SPEC-1 --subscription one"] {
            let mut terminal = Terminal::open();
            let mut command = sandbox.command(&command.split(' ').collect::<Vec<_>>());
            let mut child = terminal.start(&mut command);
            terminal.wait_for_text(words);
            assert_eq!(wait_for_end("the command to end by itself", &mut child), Some(2), "{command:?}");
        }
    }
    sandbox.write("client.key", &text(key.private_key_to_pem_pkcs8().unwrap()));
    let serve = sandbox.serve();
    sandbox.write("client.key", &modern);
    let ran = sandbox.run(&["reload"]);
    assert!(ran.code == 2 && ran.stderr.contains(words), "{ran:?}");
    assert_eq!(serve.terminate().0, 0);
}

#[test]
fn a_trusted_certificate_is_accepted() {
    let (code, report) = try_out("127.0.0.1", true, None);
    assert_eq!((code, &report["status"]), (0, &200.into()), "{report}");
}

#[test]
fn an_unknown_issuer_a_wrong_name_and_an_old_protocol_are_refused() {
    for (name, trusted, versions, why) in [
        ("127.0.0.1", false, None, "signed by itself, and not trusted here"),
        ("elsewhere.example", true, None, "its certificate is not for 127.0.0.1"),
        ("127.0.0.1", true, Some(SslVersion::TLS1_1), "protocol version"),
    ] {
        let (code, report) = try_out(name, trusted, versions);
        assert_eq!(code, 1, "{name} {trusted} {versions:?}: {report}");
        let error = report["error"].as_str().unwrap();
        assert!(error.starts_with("tls: ") && error.contains(why), "{error}");
    }
}
