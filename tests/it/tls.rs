//! TLS: trusted certificates are accepted, others are not, and nothing older than 1.2 is spoken.

use openssl::symm::Cipher;
use serde_json::Value;
use spec_notify::testing::TlsVersion;

use crate::harness::certificate::{certificate, key_pem, pem, tls};
use crate::harness::{Endpoint, Ran, Sandbox, Terminal, Tls, wait_for_end};

fn try_out(name: &str, trusted: bool, version: Option<TlsVersion>) -> (i32, Value) {
    let tls = Tls::self_signed(name);
    let tls = version.map_or(tls.clone(), |version| tls.only(version));
    let endpoint = Endpoint::over_tls(&tls, [200]);
    let sandbox = Sandbox::new(&[("tls", &endpoint.url(), "")]);
    let roots = sandbox.write("roots.pem", tls.certificate());
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
    let own = certificate("127.0.0.1");
    let (client, client_key) = certificate("client.example");
    let endpoint = Endpoint::over_tls(&tls(&own, &[]).asking_for(&pem(&client)), [200]);
    let url = endpoint.url();
    let files = "ca_file = \"ca.pem\"\nclient_cert_file = \"client.pem\"\nclient_key_file = \"client.key\"";
    let sandbox = Sandbox::new(&[("both", &url, files), ("no-client", &url, "ca_file = \"ca.pem\"")]);
    sandbox.write("ca.pem", &pem(&own.0));
    sandbox.write("client.pem", &pem(&client));
    sandbox.write("client.key", &key_pem(&client_key));
    let test = |id: &str| {
        let ran = sandbox.run(&["--json", "test", "SPEC-1", "--subscription", id]);
        serde_json::from_str::<Value>(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"))[0].clone()
    };
    assert_eq!(test("both")["status"], 200);
    let error = test("no-client")["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("tls: ") && error.contains("asks for a client certificate"), "{error}");
    assert!(test("no-client")["hint"].as_str().unwrap().contains("client_cert_file"));
    for (file, content, words) in [
        ("client.key", key_pem(&own.1), "is not the key of the certificate"),
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
        ("127.0.0.1", true, Some(TlsVersion::V1_1), "protocol version"),
    ] {
        let (code, report) = try_out(name, trusted, versions);
        assert_eq!(code, 1, "{name} {trusted} {versions:?}: {report}");
        let error = report["error"].as_str().unwrap();
        assert!(error.starts_with("tls: ") && error.contains(why), "{error}");
    }
}
